// What crmd adds to SAQ's page, which draws itself in place of #app and asks for its data every two seconds: a header with
// each queue's state, pause and resume, and on a queue's page the jobs' states, a search and further pages.
// SAQ's script reads the global `root_path`.
window.root_path = document.currentScript.dataset.root

;(function () {
  const STATES = ["waiting", "active", "delayed", "completed", "failed", "cancelled", "unknown"]
  const MESSAGE_MS = 8000
  const root = window.root_path
  const api = root + "/api"
  const header = document.getElementById("crmd")
  const ask = window.fetch.bind(window)
  let drawn = ""
  let forgetMessage = 0

  // SAQ's script uses `root + "/"` as its home and finds nothing at `root`.
  if (location.pathname === root) history.replaceState(null, "", root + "/" + location.search)

  // SAQ's script asks for a queue by its path alone. The filter of our links stands in the page's query: it is added.
  window.fetch = async function (path, options) {
    const isPage = path === api + location.pathname.slice(root.length)
    const response = await ask(isPage ? path + location.search : path, options)
    hear(path, options, response.clone()).catch(error => console.log(error))
    return response
  }

  async function hear(path, options, response) {
    const data = await response.json()
    if (!response.ok) return options ? say(data.detail) : show(path, "", [])
    header.classList.toggle("below", Boolean(data.queues))
    if (data.queues) show(path, JSON.stringify(data.queues), [overview(data.queues)])
    else if (data.queue) showQueue(path, data.queue)
    else if (data.job) show(path, "", [])
  }

  function showQueue(path, queue) {
    const { jobs, workers, ...shown } = queue
    show(path, JSON.stringify([shown, location.search]), [states(queue), tools(queue)])
  }

  // Draws only what changed, so that a button does not vanish under the pointer, nor what one types in the search.
  function show(path, state, parts) {
    if (drawn === path + state) return
    const typing = document.activeElement && document.activeElement.type === "search" && document.activeElement.value
    drawn = path + state
    header.replaceChildren(element("div", { className: "message", role: "status" }), ...parts)
    header.hidden = parts.length === 0
    const search = header.querySelector("input")
    if (typeof typing === "string" && search) {
      search.value = typing
      search.focus()
    }
  }

  function say(text) {
    const line = header.querySelector(".message") || header.appendChild(element("div", { className: "message" }))
    header.hidden = false
    line.textContent = text
    clearTimeout(forgetMessage)
    forgetMessage = setTimeout(() => { line.textContent = "" }, MESSAGE_MS)
  }

  function overview(queues) {
    const names = ["Queue", "State", "Rate", "Completed", "Failed", ""]
    const head = names.map(name => element("th", { className: isNumber(name) }, name))
    const rows = queues.map(queue => element("tr", {},
      element("td", {}, element("a", { href: pageOf(queue) }, queue.name)),
      element("td", {}, badge(queue)),
      element("td", {}, rate(queue)),
      element("td", { className: "number" }, element("a", { href: pageOf(queue) + "?state=completed" }, queue.counts.completed)),
      element("td", { className: "number" }, element("a", { href: pageOf(queue) + "?state=failed" }, queue.counts.failed)),
      element("td", { className: "number" }, toggle(queue))))
    return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))
  }

  const isNumber = name => (["Completed", "Failed", ""].includes(name) ? "number" : "")

  function states(queue) {
    const chosen = new URLSearchParams(location.search).get("state") || ""
    const links = ["", ...STATES].map(function (state) {
      const link = element("a", { className: "state", href: pageOf(queue) + (state ? "?state=" + state : "") })
      link.textContent = state ? state + " " + queue.counts[state] : "all"
      if (state === chosen) link.setAttribute("aria-current", "page")
      return link
    })
    return element("div", { className: "row" }, ...links)
  }

  function tools(queue) {
    const query = new URLSearchParams(location.search)
    const search = element("input", { type: "search", placeholder: "key, name, payload, error" })
    search.value = query.get("search") || ""
    search.setAttribute("aria-label", "Search jobs")
    search.addEventListener("keydown", event => { if (event.key === "Enter") go({ search: search.value, cursor: "" }) })
    const row = element("div", { className: "row" }, toggle(queue), badge(queue), rate(queue))
    if (queue.held) row.append(element("span", { className: "badge warn" }, queue.held))
    search.className = "push"
    row.append(search)
    if (query.get("cursor")) row.append(button("First page", () => go({ cursor: "" })))
    if (queue.cursor) row.append(button("Next page", () => go({ cursor: queue.cursor })))
    return row
  }

  function badge(queue) {
    if (!queue.paused) return element("span", { className: "badge" }, "running")
    const { reason, by, until } = queue.pause
    const words = ["paused", by && "by " + by, reason && ": " + reason, until && "until " + new Date(until).toLocaleString()]
    return element("span", { className: "badge warn" }, words.filter(Boolean).join(" ").replace(" :", ":"))
  }

  function rate(queue) {
    const { rate, left } = queue.limit
    return rate ? element("span", { className: "badge" }, rate + ", " + left + " left") : ""
  }

  function toggle(queue) {
    const verb = queue.paused ? "resume" : "pause"
    return button(queue.paused ? "Resume" : "Pause", async function () {
      const response = await ask(api + "/queues/" + queue.name + "/" + verb, { method: "POST" })
      if (!response.ok) return say((await response.json()).detail)
      window.fetch(api + location.pathname.slice(root.length).replace(/^\/$/, "/queues"))
    })
  }

  function button(text, act) {
    const made = element("button", { type: "button", className: "secondary outline" }, text)
    made.addEventListener("click", act)
    return made
  }

  function go(changes) {
    const query = new URLSearchParams(location.search)
    for (const [name, value] of Object.entries(changes)) value ? query.set(name, value) : query.delete(name)
    location.search = query.toString()
  }

  function pageOf(queue) {
    return root + "/queues/" + queue.name
  }

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties)
    made.append(...children)
    return made
  }

  // A job's page links its queue without the root.
  document.addEventListener("click", function (event) {
    const link = event.target.closest("a")
    const path = link && link.getAttribute("href")
    if (!path || !path.startsWith("/queues/") || path.startsWith(root)) return
    event.preventDefault()
    event.stopPropagation()
    location.assign(root + path)
  }, true)
})()
