/* Puts the part of a page that changes in place, without a reload. Without JavaScript the page reloads itself whole. */
"use strict";
(() => {
  const part = document.querySelector("[data-refresh]");
  if (!part) return;
  const SECONDS = Number(part.dataset.seconds) || 2;
  const was = part.querySelector(".phase")?.textContent;
  async function refresh() {
    if (!document.hidden) {
      try {
        const answer = await fetch(part.dataset.refresh, { headers: { "X-Part": "1" }, credentials: "same-origin" });
        if (answer.redirected) return location.assign(answer.url);
        if (answer.ok) show(await answer.text());
      } catch { /* the server is away: try again */ }
    }
    setTimeout(refresh, SECONDS * 1000);
  }
  function show(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    const inside = fresh.getElementById(part.id);
    const now = fresh.querySelector(".phase")?.textContent;
    if (now !== was && !inside) return location.reload();
    if (!inside && /<html/i.test(html)) return location.reload();
    part.replaceChildren(...(inside || fresh.body).childNodes);
  }
  setTimeout(refresh, SECONDS * 1000);
})();
