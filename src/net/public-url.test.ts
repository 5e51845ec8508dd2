import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isPublicAddress } from "./addresses.ts";
import { urlProblem } from "./public-url.ts";

describe("urlProblem", () => {
  test.each([
    "https://example.com/a.jpg",
    "http://example.com/a.jpg?x=1#part",
    "https://example.com:8443/",
    "http://example.com:8080/",
    "https://xn--bcher-kva.example/",
    "https://bücher.example/ü.png",
    "http://93.184.216.34/",
    "https://[2606:4700:4700::1111]/",
    "HTTPS://EXAMPLE.COM/",
  ])("%s passes", (url) => {
    expect(urlProblem(url, [])).toBeNull();
  });

  test.each([
    "",
    "example.com/a.jpg",
    "//example.com/a.jpg",
    "file:///etc/passwd",
    "data:image/png;base64,AAAA",
    "ftp://example.com/",
    "javascript:alert(1)",
    "http:example.com",
    "http:///example.com",
    "http://",
    "https://user@example.com/",
    "https://user:word@example.com/",
    "https://@example.com/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com/a b",
    " https://example.com/",
    "https://example.com/\n",
    "https://exam\tple.com/",
    "https://example.com/\u0000",
    "https://example.com:22/",
    "https://example.com:6379/",
    "https://example.com:99999/",
    "http://127.0.0.1/",
    "http://127.1/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://2130706433/",
    "http://１２７.0.0.1/",
    "http://127.0.0.1./",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[fe80::1%25eth0]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://168.63.129.16/",
    "http://10.0.0.1/",
    "http://0/",
    "http://localhost/",
    "http://LOCALHOST:8080/",
    "http://a.localhost/",
    "http://localhost./",
    "http://printer.local/",
    "http://metadata.google.internal/",
    "http://minio/",
    "http://example.com./",
    `https://example.com/${"a".repeat(2_048)}`,
  ])("%p is refused", (url) => {
    expect(urlProblem(url, [])).toBeString();
  });

  test("a reason never holds the URL", () => {
    fc.assert(
      fc.property(fc.webUrl({ withQueryParameters: true }), fc.boolean(), (url, spoil) => {
        const reason = urlProblem(spoil ? `${url}\\` : url.replace("://", "://secret@"), []);
        expect(reason).toBeString();
        expect(reason).not.toContain(new URL(url).hostname);
      }),
    );
  });

  test("an IPv4 host passes exactly when it is public, however it is written", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), fc.constantFrom(10, 16, 8), (value, radix) => {
        const text = `${radix === 16 ? "0x" : radix === 8 ? "0" : ""}${value.toString(radix)}`;
        const host = new URL(`http://${text}/`).hostname;
        expect(urlProblem(`http://${text}/`, []) === null).toBe(isPublicAddress(host));
      }),
    );
  });

  test("the operator's list opens a host, or a host and port, and nothing beside it", () => {
    expect(urlProblem("http://127.0.0.1:5000/", ["127.0.0.1"])).toBeNull();
    expect(urlProblem("http://127.0.0.1:5000/", ["127.0.0.1:5000"])).toBeNull();
    expect(urlProblem("http://localhost/", ["LOCALHOST:80"])).toBeNull();
    expect(urlProblem("http://[::1]:5000/", ["[::1]:5000"])).toBeNull();
    expect(urlProblem("http://[::1]:5000/", ["::1"])).toBeNull();
    expect(urlProblem("http://127.0.0.1:5001/", ["127.0.0.1:5000"])).toBeString();
    expect(urlProblem("http://127.0.0.2/", ["127.0.0.1"])).toBeString();
    expect(urlProblem("http://a.localhost/", ["localhost"])).toBeString();
    expect(urlProblem("http://user@127.0.0.1/", ["127.0.0.1"])).toBeString();
    expect(urlProblem("file://127.0.0.1/etc/passwd", ["127.0.0.1"])).toBeString();
  });

  test("no text makes it slow", () => {
    const began = performance.now();
    for (const part of ["a", "@", "\\", " ", ":", "[", ".", "0x", "://"]) {
      for (const length of [2_000, 100_000]) urlProblem(`https://${part.repeat(length / part.length)}`, []);
    }
    expect(performance.now() - began).toBeLessThan(1_000);
  });
});
