"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const charts = [...document.querySelectorAll("script[data-chart]")].map((script) => ({
    place: document.getElementById(script.dataset.chart),
    figure: JSON.parse(script.textContent),
  }));

  const tone = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

  function coloured(trace, tones) {
    const color = typeof trace.meta.color === "number" ? tones[trace.meta.color] : tone(trace.meta.color);
    const painted = { ...trace, line: { ...trace.line, color } };
    if (trace.type !== "box") painted.marker = { ...trace.marker, color };
    if (trace.error_y) painted.error_y = { ...trace.error_y, color };
    return painted;
  }

  function draw(chart) {
    const tones = Array.from({ length: 8 }, (_, number) => tone(`series-${number}`));
    const { layout, data } = chart.figure;
    const axis = { gridcolor: tone("line"), linecolor: tone("line"), zerolinecolor: tone("muted"), zeroline: false };
    const themed = {
      ...layout,
      xaxis: { ...axis, ...layout.xaxis },
      yaxis: { ...axis, ...layout.yaxis },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: tone("ink") },
      hoverlabel: { bgcolor: tone("card"), bordercolor: tone("line"), font: { color: tone("ink") } },
      legend: { orientation: "h", traceorder: "normal", x: 0, xanchor: "left", y: -0.24, yanchor: "top", font: { size: 11 } },
      margin: { l: 62, r: 12, t: 10, b: 60 },
    };
    // Room for the legend: names of one width, as many in a row as there is place for.
    const longest = Math.max(...data.map((trace) => trace.name.length));
    const across = Math.max(1, Math.floor((chart.place.clientWidth - 70) / (longest * 6.5 + 55)));
    const height = Math.max(300, (layout.meta || {}).height || 0);
    chart.place.style.height = `${height + 20 * Math.ceil(data.length / across)}px`;
    const options = { responsive: true, displaylogo: false, displayModeBar: false, typesetMath: false };
    return Plotly.react(chart.place, data.map((trace) => coloured(trace, tones)), themed, options);
  }

  function show(theme) {
    root.dataset.theme = theme;
    const other = theme === "dark" ? "light" : "dark";
    button.querySelector(".name").textContent = other === "dark" ? "Dark" : "Light";
    button.setAttribute("aria-label", `Change to the ${other} theme`);
    charts.forEach(draw);
  }

  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const current = () => chosen || (prefersDark.matches ? "dark" : "light");
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    show(chosen);
  });
  prefersDark.addEventListener("change", () => show(current()));
  addEventListener("beforeprint", () => show("light"));
  addEventListener("afterprint", () => show(current()));
  show(current());

  // A column of numbers is sorted by its values, one of words by its letters; what is missing
  // comes last.
  function sort(head) {
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    const numeric = head.classList.contains("number");
    const value = (row) => row.children[column].dataset.value;
    const compare = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
      return up ? order : -order;
    };
    for (const each of head.parentNode.children) each.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  }
  for (const head of document.querySelectorAll("thead th")) {
    head.querySelector("button").addEventListener("click", () => sort(head));
  }

  // The part that is read now is marked in the navigation.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target.id).setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  for (const id of links.keys()) seen.observe(document.getElementById(id));
})();
