"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tasks = new Map(data.tasks.map((task) => [task.id, task]));
  const names = data.criteria.map((one) => one.name);
  const at = (id) => document.getElementById(id);
  const radios = [...document.querySelectorAll("#questions input")];
  const fields = [...document.querySelectorAll("fieldset")];
  const prefix = `exp3rt-study:${data.study}:`;
  let state = null;
  let since = 0;
  let active = 0;

  // --- what is kept in this browser

  function load(key) {
    try { return localStorage.getItem(prefix + key); } catch { return null; }
  }
  function keep() {
    try {
      localStorage.setItem(`${prefix}rater:${state.rater}`, JSON.stringify(state));
      localStorage.setItem(`${prefix}last`, state.rater);
    } catch {
      warn("This browser keeps nothing. Do not close the page before you have saved your answers.");
    }
  }
  function warn(text) {
    at("warning").textContent = text;
    at("warning").hidden = false;
  }

  // --- an order of tasks and sides for each rater: the same whenever it is drawn for this code

  function generator(text) {
    let seed = 2166136261;
    for (const letter of text) seed = Math.imul(seed ^ letter.codePointAt(0), 16777619);
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }
  function begun(rater) {
    const random = generator(data.study + rater);
    const order = [...tasks.keys()];
    for (let last = order.length - 1; last > 0; last--) {
      const other = Math.floor(random() * (last + 1));
      [order[last], order[other]] = [order[other], order[last]];
    }
    const left = Object.fromEntries(order.map((id) => [id, random() < 0.5 ? "x" : "y"]));
    return { study: data.study, rater, order, left, answers: {}, seconds: {}, index: 0 };
  }
  function kept(rater) {
    try {
      const found = JSON.parse(load(`rater:${rater}`));
      const whole = found && found.order.length === tasks.size && found.order.every((id) => tasks.has(id));
      return whole ? found : null;
    } catch { return null; }
  }

  // --- showing

  const complete = (id) => names.every((name) => (state.answers[id] || {})[name]);
  const turned = { x: "y", y: "x" };
  const sideOf = (id, value) => value === "tie" ? "tie" : value === "left" ? state.left[id] : turned[state.left[id]];
  const placeOf = (id, choice) => choice === "tie" ? "tie" : choice === state.left[id] ? "left" : "right";

  function list(place, profile) {
    place.querySelectorAll("p, ul").forEach((old) => old.remove());
    const sides = Object.entries(profile).filter(([, texts]) => texts.length);
    for (const [side, texts] of sides) {
      const head = document.createElement("p");
      head.textContent = side;
      const ul = document.createElement("ul");
      for (const text of texts) ul.append(Object.assign(document.createElement("li"), { textContent: text }));
      place.append(head, ul);
    }
    place.hidden = !sides.length;
  }
  function show() {
    const done = state.order.filter(complete).length;
    const ended = state.index >= state.order.length;
    at("start").hidden = true;
    at("bar").hidden = at("save").hidden = false;
    at("task").hidden = ended;
    at("end").hidden = !ended;
    at("progress").max = state.order.length;
    at("progress").value = done;
    at("count").textContent = `${done} of ${state.order.length}`;
    at("name").textContent = state.rater;
    if (ended) { at("end").querySelector("h2").focus(); return; }
    const id = state.order[state.index];
    const task = tasks.get(id);
    at("title").textContent = task.title;
    at("description").replaceChildren(...task.description.map(([label, value]) => {
      const line = document.createElement("div");
      line.append(
        Object.assign(document.createElement("dt"), { textContent: label }),
        Object.assign(document.createElement("dd"), { textContent: value }),
      );
      return line;
    }));
    list(at("of-user"), task.user);
    list(at("of-item"), task.item);
    at("left").textContent = task.texts[state.left[id]];
    at("right").textContent = task.texts[turned[state.left[id]]];
    const own = state.answers[id] || {};
    for (const radio of radios) radio.checked = Boolean(own[radio.name]) && placeOf(id, own[radio.name]) === radio.value;
    mark(Math.max(0, names.findIndex((name) => !own[name])));
    at("back").disabled = state.index === 0;
    at("next").disabled = !complete(id);
    since = performance.now();
  }
  function mark(number) {
    active = number;
    fields.forEach((field, own) => field.classList.toggle("active", own === number));
  }

  // --- answering

  function note() {
    const id = state.order[state.index];
    if (!id) return;
    state.seconds[id] = Math.round(10 * ((state.seconds[id] || 0) + (performance.now() - since) / 1000)) / 10;
    since = performance.now();
  }
  function answer(name, value) {
    const id = state.order[state.index];
    state.answers[id] = { ...state.answers[id], [name]: sideOf(id, value) };
    note();
    keep();
    radios.forEach((radio) => { if (radio.name === name) radio.checked = radio.value === value; });
    const open = names.findIndex((one) => !state.answers[id][one]);
    mark(open < 0 ? names.indexOf(name) : open);
    at("next").disabled = !complete(id);
    const done = state.order.filter(complete).length;
    at("progress").value = done;
    at("count").textContent = `${done} of ${state.order.length}`;
  }
  function go(step) {
    const id = state.order[state.index];
    if (step > 0 && id && !complete(id)) return;
    note();
    state.index = Math.min(state.order.length, Math.max(0, state.index + step));
    keep();
    show();
    scrollTo(0, 0);
    if (state.index < state.order.length) at("title").focus({ preventScroll: true });
  }
  function begin(rater) {
    state = kept(rater) || begun(rater);
    keep();
    show();
    scrollTo(0, 0);
  }

  at("who").addEventListener("submit", (event) => {
    event.preventDefault();
    begin(at("rater").value);
  });
  radios.forEach((radio) => radio.addEventListener("change", () => answer(radio.name, radio.value)));
  fields.forEach((field, number) => field.addEventListener("focusin", () => mark(number)));
  at("questions").addEventListener("submit", (event) => event.preventDefault());
  at("back").addEventListener("click", () => go(-1));
  at("next").addEventListener("click", () => go(1));
  at("again").addEventListener("click", () => { state.index = 0; keep(); show(); });
  at("other").addEventListener("click", () => {
    try { localStorage.removeItem(`${prefix}last`); } catch { /* nothing is kept */ }
    location.reload();
  });
  document.addEventListener("keydown", (event) => {
    if (!state || at("task").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    const value = { a: "left", t: "tie", b: "right" }[event.key.toLowerCase()];
    if (value) {
      event.preventDefault();
      answer(names[active], value);
    } else if (event.key === "Enter" && !(event.target instanceof HTMLButtonElement)) {
      event.preventDefault();
      go(1);
    } else if (event.key.toLowerCase() === "p") go(-1);
  });

  // --- saving

  function rows() {
    return state.order.flatMap((id) => names
      .filter((name) => (state.answers[id] || {})[name])
      .map((name) => ({
        task: id, criterion: name, choice: state.answers[id][name], left: state.left[id], seconds: state.seconds[id] || 0,
      })));
  }
  function save(text, kind, ending) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: kind }));
    link.download = `study-${data.study}-${state.rater}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  at("json").addEventListener("click", () => {
    const body = { study: data.study, rater: state.rater, tasks: state.order.length, answers: rows() };
    save(`${JSON.stringify(body, null, 1)}\n`, "application/json", "json");
  });
  at("csv").addEventListener("click", () => {
    const head = ["study", "rater", "task", "criterion", "choice", "left", "seconds"];
    const lines = rows().map((row) => head.map((key) => ({ study: data.study, rater: state.rater, ...row })[key]).join(","));
    save(`${[head.join(","), ...lines].join("\n")}\n`, "text/csv", "csv");
  });

  const last = load("last");
  if (last && kept(last)) begin(last);
  else at("rater").focus();
})();
