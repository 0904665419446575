// Shows the API's description as a page.
;(async function () {
  const prefix = document.currentScript.dataset.prefix
  const target = document.getElementById("operations")
  const response = await fetch(prefix + "/api/v1/openapi.json")
  const description = await response.json()
  for (const [path, operations] of Object.entries(description.paths || {})) {
    for (const [method, operation] of Object.entries(operations)) target.append(entry(prefix + path, method, operation))
  }

  function entry(path, method, operation) {
    const summary = element("summary", element("span", method.toUpperCase()), element("code", path), operation.summary)
    summary.firstChild.className = "method"
    const parts = [operation.description, ...parameters(operation), ...body(operation), answers(operation)]
    return element("details", summary, ...parts.filter(Boolean))
  }

  function parameters(operation) {
    return operation.parameters
      .filter(parameter => parameter.in === "query")
      .map(parameter => element("p", element("code", "?" + parameter.name), " " + (parameter.schema.description || "")))
  }

  function body(operation) {
    if (!operation.requestBody) return []
    const json = operation.requestBody.content["application/json"]
    if (!json) return [element("p", "Body: " + Object.keys(operation.requestBody.content).join(", "))]
    const schema = resolve(json.schema)
    return [element("p", "Body:"), element("pre", JSON.stringify(schema.properties || schema, null, 2))]
  }

  function resolve(schema) {
    const reference = schema.$ref || (schema.oneOf && schema.oneOf[0].$ref)
    return reference ? description.components.schemas[reference.split("/").pop()] : schema
  }

  function answers(operation) {
    const list = element("dl")
    for (const [status, answer] of Object.entries(operation.responses)) {
      list.append(element("dt", status), element("dd", answer.description))
    }
    return list
  }

  function element(name, ...children) {
    const made = document.createElement(name)
    made.append(...children)
    return made
  }
})()
