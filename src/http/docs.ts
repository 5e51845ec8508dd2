// The pages of the API: Swagger UI and the OpenAPI document, both from this origin, so that they work without the
// internet and under a policy that allows no script but ours. Nothing of a request is ever put into them.
import { fileURLToPath } from "node:url";
import { operations } from "./operations.ts";
import { type PublicRoute, reply, replyJson } from "./route.ts";

/** No origin but ours and nothing inline: Swagger UI 5 needs no more. `data:` is for the icons in its style sheet. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const pageHeaders = {
  "content-security-policy": contentSecurityPolicy,
  "cross-origin-opener-policy": "same-origin",
  "cache-control": "no-cache",
};

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Millrace API</title>
<link rel="icon" href="/docs/favicon.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<main id="swagger-ui"><noscript>The API is described in <a href="/openapi.json">/openapi.json</a>.</noscript></main>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/init.js"></script>
</body>
</html>
`;

// Without `validatorUrl: null` the page would ask a server of Swagger's.
const initScript = `window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  tryItOutEnabled: true,
  displayRequestDuration: true,
});
`;

/** The routes of the pages. `openapi` is the document as text, made once. */
export function docsRoutes(openapi: () => string): readonly PublicRoute[] {
  const text = (path: string, contentType: string, body: string): PublicRoute => ({
    access: "public",
    method: "GET",
    path,
    handle: (call) => reply(call, 200, contentType, body, pageHeaders),
  });
  const asset = (path: string, contentType: string, url: string): PublicRoute => ({
    access: "public",
    method: "GET",
    path,
    handle: async (call) => reply(call, 200, contentType, await packaged(url), pageHeaders),
  });
  return [
    text("/docs", "text/html; charset=utf-8", page),
    text("/docs/init.js", "text/javascript; charset=utf-8", initScript),
    asset("/docs/swagger-ui.css", "text/css; charset=utf-8", import.meta.resolve("swagger-ui-dist/swagger-ui.css")),
    asset(
      "/docs/swagger-ui-bundle.js",
      "text/javascript; charset=utf-8",
      import.meta.resolve("swagger-ui-dist/swagger-ui-bundle.js"),
    ),
    asset("/docs/favicon.png", "image/png", import.meta.resolve("swagger-ui-dist/favicon-32x32.png")),
    {
      access: "public",
      method: "GET",
      path: "/openapi.json",
      operation: operations.openapi,
      handle: (call) => replyJson(call, 200, openapi(), { "cache-control": "no-cache" }),
    },
  ];
}

/** A file of an installed package. Read when asked for: the page is rare and the files are large. */
const packaged = (url: string): Promise<Uint8Array<ArrayBuffer>> => Bun.file(fileURLToPath(url)).bytes();
