"use strict"
;(function () {
  const TILES = [
    ["accepted", "accepted"], ["delivered", "delivered"], ["read", "read"], ["failed", "failed later", "bad"],
    ["refused", "refused", "bad"], ["inbound", "from users"], ["mail", "mails"], ["webhook", "webhooks"], ["ai", "AI calls"],
  ]
  const KEPT = 1000
  const STEPS = ["accepted", "sent", "delivered", "read"]

  // For each kind: its tab, the columns, what a row shows of an entry, and the words for none.
  const KINDS = {
    message: {
      tab: "Messages", columns: ["Time", "To", "Message", "Status"],
      cells: (e) => [number(e.to), text(e.type === "text" ? e.text : e.type + ": " + e.text), course(e)],
      more: (e) => [
        ["Message", e.text], ["Statuses", e.history.map((s) => clock(s.at) + "  " + s.status).join("\n")],
        ["Error", e.error], ["Fault", e.fault], ["wamid", e.wamid, "code"], ["Job", e.callback_data, "code"],
      ],
      none: "No messages yet. Send one with:  crmd enqueue message send_message to=4915112345678 text=hello",
    },
    inbound: {
      tab: "From users", columns: ["Time", "From", "Message", "State"],
      cells: (e) => [number(e.sender), text(e.text), chip(e.state, { delivered: "good", read: "blue", "not taken": "bad" }[e.state])],
      more: (e) => [["From", e.name + ", " + e.sender], ["Type", e.type], ["Message", e.text], ["wamid", e.wamid, "code"]],
      none: "No user has written. Write as one at the right.",
    },
    mail: {
      tab: "Mail", columns: ["Time", "To", "Subject", "Size"],
      cells: (e) => [text(e.to.join(", "), "number"), text(e.subject || "(no subject)"), chip(size(e.size))],
      more: (e) => [
        ["From", e.sender], ["To", e.to.join(", ")], ["Text", e.text], ["HTML", e.html, "code"],
        ["Logged in as", e.username], ["TLS", e.encrypted ? "yes" : ""],
        ["Attached", e.attachments.join("\n")], ["Message-ID", e.message_id, "code"],
      ],
      none: "No mail yet.",
    },
    webhook: {
      tab: "Webhooks", columns: ["Time", "Path", "Event", "Signature"],
      cells: (e) => [text(e.path, "number"), text(e.event || e.text), e.verified ? chip("verified", "good") : chip("does not fit", "bad")],
      more: (e) => [["Id", e.message_id, "code"], ["Body", pretty(e.text), "code"], ["Fault", e.fault]],
      none: "No webhooks yet.",
    },
    ai: {
      tab: "AI", columns: ["Time", "Call", "Asked", "Tokens"],
      cells: (e) => [text(e.call, "number"), text(e.text || e.answer), chip(e.usage.total_tokens || (e.usage.seconds ? e.usage.seconds + " s" : "–"))],
      more: (e) => [["Model", e.model], ["Asked", e.text], ["Answered", e.answer], ["Usage", JSON.stringify(e.usage), "code"]],
      none: "No AI calls yet.",
    },
    notice: {
      tab: "Notifications", columns: ["Time", "Title", "Message", "Level"],
      cells: (e) => [text(e.title, "number"), text(e.text), chip(e.level || "info", { warning: "warn", failure: "bad", error: "bad" }[e.level])],
      more: (e) => [["Title", e.title], ["Message", e.text]],
      none: "No notifications yet.",
    },
  }

  const $ = (id) => document.getElementById(id)
  const entries = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, new Map()]))
  const rows = new Map() // shown entries by id
  let shown = location.hash.slice(1) in KINDS ? location.hash.slice(1) : "message"
  let totals = {}
  let changed = new Set()
  let drawing = false

  // What comes from the server

  function listen() {
    const source = new EventSource("/_sandbox/events")
    source.onopen = () => live(true)
    source.onerror = () => live(false)
    source.onmessage = function (event) {
      const data = JSON.parse(event.data)
      if (data.callback) showState(data)
      if (data.reload) load()
      if (data.entry) keep(data.entry)
      if (data.totals) totals = data.totals
      draw()
    }
  }

  async function load() {
    const data = await (await fetch("/_sandbox/journal")).json()
    for (const kept of Object.values(entries)) kept.clear()
    data.entries.forEach(keep)
    totals = data.totals
    showState(data)
    redraw()
  }

  function keep(entry) {
    const kept = entries[entry.kind]
    kept.set(entry.id, entry)
    if (kept.size > KEPT) {
      const oldest = kept.keys().next().value
      kept.delete(oldest)
      if (rows.has(oldest)) drop(oldest)
    }
    changed.add(entry.id)
  }

  // Drawing: once a frame, and only the rows that changed

  function draw() {
    if (drawing) return
    drawing = true
    requestAnimationFrame(function () {
      drawing = false
      drawTotals()
      for (const id of changed) {
        const entry = entries[shown].get(id)
        if (entry) drawRow(entry)
      }
      changed = new Set()
      showEmpty()
    })
  }

  function redraw() {
    rows.clear()
    $("rows").replaceChildren()
    $("head").replaceChildren(make("tr", {}, ...KINDS[shown].columns.map((name) => make("th", {}, name))))
    for (const entry of entries[shown].values()) drawRow(entry)
    changed = new Set()
    drawTotals()
    showEmpty()
  }

  function drawTotals() {
    $("tiles").replaceChildren(...TILES.map(([key, name, kind]) =>
      make("div", { className: "tile" + (kind && totals[key] ? " " + kind : "") },
        make("b", {}, (totals[key] || 0).toLocaleString("en")), make("span", {}, name))))
    $("tabs").replaceChildren(...Object.entries(KINDS).map(function ([kind, about]) {
      const tab = make("button", { type: "button", role: "tab", ariaSelected: String(kind === shown) }, about.tab)
      if (entries[kind].size) tab.append(" ", make("small", {}, String(entries[kind].size)))
      tab.addEventListener("click", () => show(kind))
      return tab
    }))
    const numbers = new Set()
    for (const entry of [...entries.message.values()].slice(-30)) numbers.add(entry.to)
    $("numbers").replaceChildren(...[...numbers].map((value) => make("option", { value })))
  }

  function drawRow(entry) {
    if (!fits(entry)) return drop(entry.id)
    const old = rows.get(entry.id)
    const row = make("tr", { className: "entry" + (old ? "" : " new"), tabIndex: 0 },
      make("td", { className: "time" }, clock(entry.at)), ...KINDS[shown].cells(entry))
    row.lastElementChild.classList.add("status")
    const toggle = () => open(entry.id)
    row.addEventListener("click", toggle)
    row.addEventListener("keydown", (event) => event.key === "Enter" && toggle())
    rows.set(entry.id, { row, more: old && old.more })
    if (!old) return $("rows").prepend(row)
    old.row.replaceWith(row)
    if (old.more) fill(old.more, entry)
  }

  function open(id) {
    const known = rows.get(id)
    if (known.more) {
      known.more.remove()
      known.more = null
      return
    }
    known.more = make("tr", { className: "more" })
    fill(known.more, entries[shown].get(id))
    known.row.after(known.more)
  }

  function fill(row, entry) {
    const list = make("dl")
    for (const [name, value, kind] of KINDS[shown].more(entry))
      if (value !== null && value !== undefined && value !== "")
        list.append(make("dt", {}, name), make("dd", { className: kind || "" }, String(value)))
    row.replaceChildren(make("td", { colSpan: 4 }, list))
  }

  function drop(id) {
    const known = rows.get(id)
    if (!known) return
    known.row.remove()
    if (known.more) known.more.remove()
    rows.delete(id)
  }

  function showEmpty() {
    $("empty").textContent = entries[shown].size ? "Nothing fits the filter." : KINDS[shown].none
    $("empty").hidden = rows.size > 0
  }

  function show(kind) {
    shown = kind
    history.replaceState(null, "", "#" + kind)
    redraw()
  }

  function fits(entry) {
    const wanted = $("filter").value.trim().toLowerCase()
    return !wanted || JSON.stringify(entry).toLowerCase().includes(wanted)
  }

  function live(on) {
    $("live").textContent = on ? "live" : "reconnecting"
    $("live").classList.toggle("on", on)
  }

  function showState(data) {
    const callback = data.callback
    $("callback").replaceChildren(...(callback.url
      ? ["WhatsApp’s webhooks to ", make("b", {}, callback.url), " · " + callback.state +
          (callback.delivered ? " · " + callback.delivered.toLocaleString("en") + " taken" : "") +
          (callback.refused ? " · " + callback.refused.toLocaleString("en") + " tried again" : "")]
      : ["no callback for WhatsApp’s webhooks"]))
    const list = data.faults.map((fault) => make("li", {},
      [fault.service, fault.kind, fault.code, fault.stage, fault.to, fault.seconds && fault.seconds + " s"].filter((part) => part !== undefined).join(" "),
      pill(fault.times + "×", "warn")))
    if (list.length) list.push(make("li", {}, button("No more faults", () => ask("DELETE", "/faults", undefined, $("fault")))))
    $("pending").replaceChildren(...list)
  }

  // Pieces

  function make(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties)
    made.append(...children.filter((child) => child !== undefined))
    return made
  }

  function button(words, act) {
    const made = make("button", { type: "button" }, words)
    made.addEventListener("click", act)
    return made
  }

  function number(value) {
    return make("td", { className: "number" }, value || "–")
  }

  function text(value, kind) {
    return make("td", { className: kind || "text", title: value }, kind ? value : make("div", {}, value))
  }

  function chip(words, kind) {
    return make("td", {}, pill(words, kind))
  }

  function pill(words, kind) {
    return make("span", { className: "chip" + (kind ? " " + kind : "") }, String(words))
  }

  function course(entry) {
    const last = entry.history[entry.history.length - 1].status
    const bad = last === "failed" || last === "refused"
    const at = Math.max(...entry.history.map((step) => STEPS.indexOf(step.status))) + 1
    const kind = bad ? "bad" : at === 4 ? "blue" : "good"
    const steps = make("span", { className: "steps " + (bad ? "bad" : "at" + at) }, ...STEPS.map(() => make("i")))
    const words = bad ? last + (entry.error !== null ? " " + entry.error : "") : STEPS[at - 1]
    return make("td", {}, steps, pill(words, kind))
  }

  function clock(at) {
    return new Date(at * 1000).toLocaleTimeString([], { hour12: false })
  }

  function size(bytes) {
    return bytes < 1024 ? bytes + " B" : bytes < 1048576 ? Math.round(bytes / 1024) + " KiB" : (bytes / 1048576).toFixed(1) + " MiB"
  }

  function pretty(raw) {
    try {
      return JSON.stringify(JSON.parse(raw), null, 2)
    } catch {
      return raw
    }
  }

  // What the person does

  async function ask(method, path, body, form, done) {
    const said = form.querySelector(".said")
    const response = await fetch("/_sandbox" + path, { method, body: body && JSON.stringify(body) })
    const answer = await response.json()
    said.textContent = response.ok ? done || "" : answer.error
    said.classList.toggle("wrong", !response.ok)
    return response.ok
  }

  $("write").addEventListener("submit", async function (event) {
    event.preventDefault()
    const form = event.target
    const sent = await ask("POST", "/inbound", { from: form.from.value, text: form.text.value }, form, "Sent.")
    if (sent) form.text.value = ""
  })

  $("fault").addEventListener("submit", async function (event) {
    event.preventDefault()
    const form = event.target
    const body = { service: form.service.value, kind: form.kind.value, times: Number(form.times.value) }
    if (!$("code").hidden) body.code = Number(form.code.value)
    if (!$("seconds").hidden) body.seconds = Number(form.seconds.value)
    if (await ask("POST", "/faults", body, form)) showState(await (await fetch("/_sandbox/journal")).json())
  })

  function fitFault() {
    const form = $("fault")
    const kind = form.kind.value
    $("code").hidden = !["error", "failed", "status"].includes(kind)
    $("seconds").hidden = !["timeout", "delay"].includes(kind)
    form.code.value = kind === "status" ? 502 : { whatsapp: kind === "failed" ? 131049 : 131056, smtp: 451, webhook: 503, ai: 429 }[form.service.value]
  }
  $("fault").kind.addEventListener("change", fitFault)
  $("fault").service.addEventListener("change", fitFault)
  $("filter").addEventListener("input", redraw)
  $("clear").addEventListener("click", () => fetch("/_sandbox/journal", { method: "DELETE" }))

  fetch("/_sandbox/settings").then((response) => response.json()).then(function (settings) {
    $("environment").textContent = Object.entries(settings.environment).map(([name, value]) => name + "=" + value).join("\n")
  })
  listen()
})()
