// Shows openapi.json as a list of paths and types. All text goes in as text, never as markup.

const element = (name, children = [], attributes = {}) => {
  const node = document.createElement(name);
  Object.assign(node, attributes);
  node.append(...[].concat(children));
  return node;
};

const typeName = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.oneOf) return schema.oneOf.map(typeName).filter((name) => name !== "null").join(" or ");
  const type = [].concat(schema.type ?? "any").filter((name) => name !== "null").join(" or ");
  return schema.type?.includes("array") ? `list of ${typeName(schema.items)}` : type;
};

const row = (head, ...cells) =>
  element("tr", [element("th", head, { scope: "row" }), ...cells.map((cell) => element("td", cell ?? ""))]);

const operation = (path, method, about) => {
  const body = about.requestBody?.content ?? {};
  const takes = Object.entries(body).map(([kind, { schema }]) => row("body", `${kind}: ${typeName(schema)}`));
  const answers = Object.entries(about.responses).map(([status, { description, content }]) => {
    const kinds = Object.entries(content ?? {}).map(([kind, { schema }]) => `${kind}: ${typeName(schema)}`);
    return row(status, description, kinds.join(", "));
  });
  return element("details", [
    element("summary", [element("b", method.toUpperCase()), element("code", path), ` ${about.summary ?? ""}`]),
    element("table", [...takes, ...answers]),
  ]);
};

const type = (name, schema) => {
  const required = new Set(schema.required ?? []);
  const parts = schema.allOf ?? [schema];
  const fields = parts.flatMap((part) => Object.entries(part.properties ?? {}));
  const rows = fields.map(([field, of]) =>
    row(field, typeName(of) + (required.has(field) ? ", required" : ""), of.description));
  return element("details", [
    element("summary", [element("b", name), (schema.description ?? "").split("\n")[0]]),
    element("table", rows),
  ]);
};

const show = async () => {
  const api = await (await fetch("/openapi.json")).json();
  document.getElementById("about").textContent = api.info.description;
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, about] of Object.entries(methods)) {
      document.getElementById("paths").append(operation(path, method, about));
    }
  }
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    document.getElementById("types").append(type(name, schema));
  }
};

show().catch((error) => { document.getElementById("about").textContent = `openapi.json cannot be read: ${error}`; });
