// The formats of JSON Schema strings that the simulator writes and recognises. An unknown format asks nothing, as the
// standard has it. The expressions here are our own and linear.
import { drawInteger, drawOne, type Rng } from "../rng.ts";

interface Format {
  readonly draw: (rng: Rng) => string;
  readonly test: RegExp;
}

const two = (value: number): string => String(value).padStart(2, "0");
const date = (rng: Rng): string =>
  `20${two(drawInteger(rng, 20, 29))}-${two(drawInteger(rng, 1, 12))}-${two(drawInteger(rng, 1, 28))}`;
const time = (rng: Rng): string =>
  `${two(drawInteger(rng, 0, 23))}:${two(drawInteger(rng, 0, 59))}:${two(drawInteger(rng, 0, 59))}Z`;
const hex = (rng: Rng, length: number): string =>
  Array.from({ length }, () => drawInteger(rng, 0, 15).toString(16)).join("");
const name = (rng: Rng): string => drawOne(rng, ["anna", "ben", "clara", "david", "emma", "felix", "grace", "henry"]);
const host = (rng: Rng): string => `${drawOne(rng, ["mill", "river", "harbour", "garden", "bridge"])}.example`;
const uri = (rng: Rng): string => `https://${host(rng)}/${name(rng)}/${drawInteger(rng, 1, 999)}`;

const dateTest =
  /^\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))$/;
const timeTest = /^(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/i;
const hostTest = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/i;
const uriTest = /^[a-z][a-z0-9+.-]{0,20}:\/\/[\w.-]+(?::\d{1,5})?(?:[/?#][\w\-./?%&=#~+,:@!]*)?$/i;

const formats: Readonly<Record<string, Format>> = {
  date: { draw: date, test: dateTest },
  time: { draw: time, test: timeTest },
  "date-time": {
    draw: (rng) => `${date(rng)}T${time(rng)}`,
    test: new RegExp(`${dateTest.source.slice(0, -1)}T${timeTest.source.slice(1)}`, "i"),
  },
  duration: {
    draw: (rng) => `PT${drawInteger(rng, 1, 59)}M`,
    test: /^P(?=\d|T\d)(?:\d+D)?(?:T(?:\d+H)?(?:\d+M)?(?:\d+S)?)?$/,
  },
  email: { draw: (rng) => `${name(rng)}@${host(rng)}`, test: /^[\w.+-]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+$/i },
  hostname: { draw: host, test: hostTest },
  ipv4: {
    draw: (rng) => `192.0.2.${drawInteger(rng, 1, 254)}`,
    test: /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/,
  },
  ipv6: { draw: (rng) => `2001:db8::${drawInteger(rng, 1, 9999)}`, test: /^2001:db8::\d{1,4}$/ },
  uri: { draw: uri, test: uriTest },
  url: { draw: uri, test: uriTest },
  "uri-reference": { draw: uri, test: uriTest },
  iri: { draw: uri, test: uriTest },
  "iri-reference": { draw: uri, test: uriTest },
  uuid: {
    draw: (rng) =>
      `${hex(rng, 8)}-${hex(rng, 4)}-4${hex(rng, 3)}-${drawOne(rng, ["8", "9", "a", "b"])}${hex(rng, 3)}-${hex(rng, 12)}`,
    test: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i,
  },
  "json-pointer": { draw: () => "/value", test: /^(?:\/(?:[^~/]|~0|~1)*)*$/ },
  byte: { draw: (rng) => btoa(name(rng)), test: /^(?:[a-z0-9+/]{4})*(?:[a-z0-9+/]{2}==|[a-z0-9+/]{3}=)?$/i },
};

/** A text of the format, or null where it is unknown. */
export const drawFormat = (rng: Rng, format: string): string | null =>
  Object.hasOwn(formats, format) ? (formats[format]?.draw(rng) ?? null) : null;

/** True for an unknown format. Stricter than the standard where that costs nothing: leap days are not dates here. */
export const hasFormat = (format: string, text: string): boolean =>
  !Object.hasOwn(formats, format) || formats[format]?.test.test(text) === true;
