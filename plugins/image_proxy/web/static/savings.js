// The charts of the savings page: figures come from the server as JSON, colours from the style sheet.
"use strict";
(() => {
  const DAY = 86400;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const bytes = (value) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    let size = Math.abs(value);
    while (size >= 1000 && unit < units.length - 1) { size /= 1000; unit += 1; }
    return `${value < 0 ? "-" : ""}${size >= 100 || unit === 0 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
  };
  const dollars = (value) => `$${value >= 1 ? value.toFixed(2) : value.toFixed(4)}`;
  const formats = { bytes, dollars };
  const charts = [];

  function options(stamps, series, format, width) {
    const every = Math.max(1, Math.ceil(stamps.length / Math.max(2, width / 90)));
    const grid = { stroke: css("--line"), width: 1 };
    const axis = { stroke: css("--fg-muted"), grid, ticks: grid, font: "12px system-ui, sans-serif" };
    return {
      width, height: 220, tzDate: (stamp) => uPlot.tzDate(new Date(stamp * 1000), "UTC"),
      cursor: { y: false }, legend: { show: true, live: true },
      scales: { x: { time: true, range: [stamps[0] - DAY * 0.6, stamps[stamps.length - 1] + DAY * 0.6] }, y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, splits: () => stamps.filter((_, number) => number % every === 0), values: (_, shown) => shown.map((stamp) => new Date(stamp * 1000).toISOString().slice(5, 10)) },
        { ...axis, size: 72, values: (_, values) => values.map(format) },
      ],
      series: [
        { label: "Day", value: (_, stamp) => (stamp == null ? "-" : new Date(stamp * 1000).toISOString().slice(0, 10)) },
        ...series.map(({ label, colour }, number) => ({
          label, stroke: css(colour), fill: css(colour), width: 0,
          points: { show: false },
          paths: uPlot.paths.bars({ size: [0.8 / series.length, 60], align: series.length === 1 ? 0 : number === 0 ? -1 : 1 }),
          value: (_, value) => (value == null ? "-" : format(value)),
        })),
      ],
    };
  }

  // Each chart: which figures of a day it shows, in which colour and unit; `sum` adds them up over the days.
  const CHARTS = {
    bytes: { unit: "bytes", series: [["originals", "bytes_original", "--series-1"], ["Nova reads", "bytes_served", "--series-2"]] },
    storage: { unit: "bytes", sum: true, series: [["originals, added up", "bytes_original", "--series-1"], ["sent to S3, added up", "bytes_uploaded", "--series-2"]] },
    cost: { unit: "dollars", series: [["paid (measured)", "cost_usd", "--series-2"], ["projected (estimate)", "cost_usd_projected", "--series-3"]] },
  };
  let days = [];

  function column(name, sum) {
    let total = 0;
    return days.map((day) => {
      if (!sum) return day[name];
      total += day[name] || 0;
      return total;
    });
  }

  function draw() {
    for (const chart of charts.splice(0)) chart.destroy();
    for (const place of document.querySelectorAll("[data-chart]")) {
      if (days.length === 0) {
        place.textContent = "Nothing measured yet";
        continue;
      }
      const { unit, sum, series } = CHARTS[place.dataset.chart];
      const stamps = days.map((day) => Date.parse(`${day.group}T00:00:00Z`) / 1000);
      const data = [stamps, ...series.map(([, name]) => column(name, sum))];
      const shown = series.map(([label, , colour]) => ({ label, colour }));
      charts.push(new uPlot(options(stamps, shown, formats[unit], Math.max(260, place.clientWidth)), data, place));
    }
  }
  let waiting = 0;
  window.addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(draw); });
  document.addEventListener("themechange", draw);
  fetch("savings/chart.json", { credentials: "same-origin" })
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(answer.status))))
    .then((found) => { days = found.days; draw(); })
    .catch(() => { for (const place of document.querySelectorAll("[data-chart]")) place.textContent = "The figures could not be fetched"; });
})();
