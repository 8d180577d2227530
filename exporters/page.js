"use strict";
// The server draws the page; this fetches it again and puts the new <main> in place of the old one, so that every
// number has one source. It adds what only a browser can: the course of the last minutes and what today has cost here.
(() => {
  const root = document.documentElement, rates = [], every = 3000, longest = 200;
  let today = "";
  addEventListener("error", (event) => { root.dataset.error = event.message; });
  addEventListener("unhandledrejection", (event) => { root.dataset.error = String(event.reason); });

  const draw = () => {
    const line = document.querySelector(".spark polyline");
    if (line && rates.length > 1) {
      const top = Math.max(...rates) || 1;
      line.setAttribute("points", rates.map((rate, i) =>
        `${(100 * i / (rates.length - 1)).toFixed(2)},${(25 - 24 * rate / top).toFixed(2)}`).join(" "));
    }
    const place = document.getElementById("today");
    if (place && today) place.textContent = today;
  };
  const take = () => {
    const rate = document.querySelector("main").dataset.rate;
    if (rate !== "") rates.push(Number(rate));
    if (rates.length > longest) rates.shift();
    draw();
  };
  const poll = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("/", { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const scrolled = [...document.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
      document.querySelector("main").replaceWith(document.adoptNode(fresh.querySelector("main")));
      document.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = scrolled[i] || 0; });
      document.title = fresh.title;
      take();
      root.dataset.live = String(Number(root.dataset.live || 0) + 1);
    } catch (error) {
      document.getElementById("lost").hidden = false;
    }
  };
  const askToday = async () => {
    const midnight = new Date();
    midnight.setHours(0, 0, 0, 0);
    try {
      const answer = await fetch("/api/v1/usage?from=" + encodeURIComponent(midnight.toISOString()), { cache: "no-store" });
      if (!answer.ok) return;
      const sums = (await answer.json()).totals.filter((sum) => sum.currency).map((sum) => `${Number(sum.cost).toFixed(2)} ${sum.currency}`);
      today = sums.length ? `${sums.join(" + ")} today` : "";
      draw();
    } catch (error) { /* the total stays; today is an extra */ }
  };
  take();
  setInterval(poll, every);
  askToday();
  setInterval(askToday, 60000);
})();
