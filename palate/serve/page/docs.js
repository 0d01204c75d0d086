// The endpoints as the service describes them in /openapi.json: what goes in, what comes out, and a call to copy.

import { BASE, ask, hasKey, listen } from "./api.js";
import { announce, button, byId, make } from "./dom.js";
import { askForKey } from "./apiKey.js";

const OPEN = ["/healthz", "/readyz"]; // without a key
const nameOf = (reference) => reference.split("/").pop();
const slug = (text) => text.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "");

/** A type in words; names of other schemas lead to them. */
function typed(schema) {
  if (!schema) return ["anything"];
  if (schema.$ref) return [make("a", { href: `#${nameOf(schema.$ref)}` }, nameOf(schema.$ref))];
  if (schema.anyOf) return schema.anyOf.flatMap((one, at) => [at ? " or " : "", ...typed(one)]);
  if (schema.type === "array") return ["list of ", ...typed(schema.items)];
  if (schema.const !== undefined || schema.enum) return [(schema.enum ?? [schema.const]).map((one) => JSON.stringify(one)).join(", ")];
  return [schema.type ?? "anything", limits(schema)];
}

function limits({ minimum, maximum, default: usual }) {
  const parts = [];
  if (minimum !== undefined && maximum !== undefined) parts.push(`${minimum} to ${maximum}`);
  else if (minimum !== undefined) parts.push(`at least ${minimum}`);
  else if (maximum !== undefined) parts.push(`at most ${maximum}`);
  if (usual !== undefined && usual !== null && usual !== "") parts.push(`usually ${JSON.stringify(usual)}`);
  return parts.length ? `, ${parts.join(", ")}` : "";
}

// Descriptions are Markdown of the simplest kind: words, and code between backticks.
const codes = (text) => text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));

function table(rows) {
  const lines = rows.map(({ name, schema, required, text }) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, make("code", {}, name), required ? make("small", { class: "needed" }, " needed") : ""),
      make("td", {}, ...typed(schema)),
      make("td", {}, ...codes(text ?? "")),
    ),
  );
  return make("table", { class: "fields" }, make("tbody", {}, ...lines));
}

const properties = (schema) =>
  Object.entries(schema.properties ?? {}).map(([name, one]) => ({
    name,
    schema: one,
    // Answers always have all of their keys: only what one sends can lack some.
    required: schema.required?.includes(name) && schema.additionalProperties === false,
    text: one.description,
  }));

const json = (content) => content?.["application/json"]?.schema;

/** Something that can be sent: needed keys, with items that this service has. */
function sample(schema, ids) {
  const body = {};
  for (const [name, one] of Object.entries(schema.properties)) {
    if (name === "history") body[name] = ids.slice(0, 2);
    else if (name === "items") body[name] = ids.slice(0, 1);
    else if (name === "item") body[name] = ids[ids.length - 1];
    else if (name === "k") body[name] = 5;
    else if (schema.required?.includes(name)) body[name] = one.examples?.[0] ?? one.default ?? "";
  }
  return body;
}

// In single quotes a shell reads everything as it stands, but for the quote itself.
const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function call(method, path, schema, ids) {
  const filled = path.replace(/\{[^}]+\}/g, encodeURIComponent(ids[0]));
  const lines = [`curl ${method === "post" ? "-X POST " : ""}${quote(location.origin + BASE + filled)}`];
  if (hasKey() && !OPEN.includes(path)) lines.push(`-H "Authorization: Bearer $PALATE_API_KEY"`);
  if (schema) lines.push("-H 'Content-Type: application/json'", `-d ${quote(JSON.stringify(sample(schema, ids)))}`);
  return lines.join(" \\\n  ");
}

function endpoint(path, method, operation, schemas, ids) {
  const reference = json(operation.requestBody?.content)?.$ref;
  const body = reference && schemas[nameOf(reference)];
  const answer = json(operation.responses["200"]?.content);
  const text = call(method, path, body, ids);
  const copy = button("Copy", () => navigator.clipboard?.writeText(text).then(() => announce("Copied.")), { "aria-label": `Copy the call of ${path}` });
  const parameters = (operation.parameters ?? []).map(({ name, schema, required, description }) => ({ name, schema, required, text: description }));
  const failures = Object.entries(operation.responses).filter(([status]) => Number(status) >= 400);
  return make(
    "section",
    { class: "endpoint", id: slug(`${method} ${path}`) },
    make("h2", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), make("code", {}, path)),
    make("p", {}, ...codes(operation.description ?? operation.summary)),
    parameters.length ? [make("h3", {}, "Parameters"), table(parameters)] : null,
    body ? [make("h3", {}, "Body"), table(properties(body))] : null,
    answer ? make("h3", {}, "Answer: ", ...typed(answer)) : null,
    make("div", { class: "example" }, make("pre", { tabindex: "0" }, text), navigator.clipboard ? copy : null),
    failures.length
      ? make("details", {}, make("summary", {}, "Failures"), table(failures.map(([name, one]) => ({ name, schema: json(one.content), text: one.description }))))
      : null,
  );
}

async function draw() {
  let api;
  let ids = ["ITEM"];
  try {
    api = await ask("/openapi.json");
    const page = await ask("/v1/items?limit=3");
    if (page.items.length) ids = page.items.map((item) => item.id);
  } catch (error) {
    if (!api) return byId("endpoints").replaceChildren(make("p", { class: "notice", role: "alert" }, error.message));
  }
  byId("about").textContent = `Endpoints, version ${api.info.version}`;
  const schemas = api.components.schemas;
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const group = operation.tags?.[0] ?? "other";
      groups.set(group, [...(groups.get(group) ?? []), { path, method, operation }]);
    }
  }
  const contents = [];
  const sections = [];
  for (const [group, list] of groups) {
    contents.push(make("h2", {}, group));
    for (const { path, method, operation } of list) {
      contents.push(make("a", { href: `#${slug(`${method} ${path}`)}` }, make("code", {}, path)));
      sections.push(endpoint(path, method, operation, schemas, ids));
    }
  }
  contents.push(make("h2", {}, "schemas"));
  for (const [name, schema] of Object.entries(schemas)) {
    contents.push(make("a", { href: `#${name}` }, name));
    const about = schema.description ? make("p", {}, ...codes(schema.description)) : null;
    sections.push(make("section", { class: "endpoint", id: name }, make("h2", {}, name), about, table(properties(schema))));
  }
  byId("contents").replaceChildren(...contents);
  byId("endpoints").replaceChildren(make("p", { class: "endpoint" }, ...codes(api.info.description)), ...sections);
  // The browser looked for the place before it was there.
  if (location.hash) byId(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

listen({ locked: (error) => askForKey(error, draw) });
draw();
