// Keeps what is marked data-live as the server sees it. Without this script the page is the same,
// but still; every action is a form.
"use strict";

const EVERY = 1;
const said = document.getElementById("said");

function swap(region, html) {
  if (region.dataset.shown === html) return;
  region.dataset.shown = html;
  const focused = document.activeElement;
  const id = region.contains(focused) ? focused.id : "";
  region.innerHTML = html;
  if (id) document.getElementById(id)?.focus();
  const say = region.querySelector("[data-say]")?.dataset.say;
  if (say && said.textContent !== say) said.textContent = say;
}

async function look(region) {
  const answer = await fetch(region.dataset.live, { credentials: "same-origin" });
  if (answer.status === 401) location.reload();
  if (answer.ok) swap(region, await answer.text());
}

for (const region of document.querySelectorAll("[data-live]")) {
  const every = Number(region.dataset.every || EVERY) * 1000;
  const again = async () => {
    // Not under somebody's finger: a button that is held down stays.
    if (!document.hidden && !region.querySelector(":active")) {
      try {
        await look(region);
      } catch {
        // The server is away; the next look finds it again.
      }
    }
    setTimeout(again, every);
  };
  setTimeout(again, every);
}
