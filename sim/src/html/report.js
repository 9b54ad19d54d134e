// Filters, keys and links between the parts of a report. Everything can be read without this script.
"use strict";
(() => {
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];

  for (const command of all("code.cmd")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command.textContent);
      } catch {
        const range = document.createRange();
        range.selectNodeContents(command);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    command.after(" ", button);
  }

  // The table of events.
  const form = one("#filters");
  const rows = all("table.events tbody tr").map((row) => ({
    row,
    node: row.cells[2].textContent,
    kind: row.cells[4].textContent,
    text: row.textContent.toLowerCase(),
    told: row.classList.contains("told"),
  }));
  const filter = () => {
    const words = form.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const it of rows) {
      const fits =
        (!form.node.value || it.node === form.node.value) &&
        (!form.kind.value || it.kind === form.kind.value) &&
        (!form.story?.checked || it.told) &&
        words.every((word) => it.text.includes(word));
      it.row.hidden = !fits;
      shown += fits;
    }
    one("#shown").textContent = `${shown} of ${rows.length} shown`;
  };
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();

  // The arrows of the event under the pointer or with the focus.
  const arrows = all("path[data-e]");
  const mark = (number) => {
    for (const arrow of arrows) {
      arrow.classList.toggle("on", arrow.dataset.e.split(" ").includes(number));
    }
  };
  for (const event of all("a.ev")) {
    const number = event.id.slice(1);
    event.addEventListener("mouseenter", () => mark(number));
    event.addEventListener("focus", () => mark(number));
    event.addEventListener("mouseleave", () => mark(""));
  }

  // A link to an event that a filter hides clears the filters.
  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.hidden) {
      form.reset();
      setTimeout(() => target.scrollIntoView({ block: "center" }));
    }
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Keys.
  const help = one("#help");
  one("#keys").hidden = false;
  one("#keys").addEventListener("click", () => help.showModal());
  const told = all("a.ev.told");
  let at = -1;
  const select = (step) => {
    if (!told.length) return;
    const focused = told.indexOf(document.activeElement);
    at = Math.min(Math.max((focused < 0 ? at : focused) + step, 0), told.length - 1);
    told[at].focus({ preventScroll: true });
    const box = told[at].getBoundingClientRect();
    scrollBy({ top: box.top - innerHeight / 2 });
  };
  const keys = {
    j: () => select(1),
    k: () => select(-1),
    d: () => {
      const number = /^#e(\d+)$/.exec(location.hash)?.[1];
      const event = number && document.getElementById("d" + number);
      if (event) {
        event.focus();
        event.scrollIntoView({ block: "center" });
      }
    },
    "/": () => {
      one("#events").scrollIntoView();
      form.text.focus();
    },
    s: () => {
      if (form.story) {
        form.story.checked = !form.story.checked;
        filter();
        one("#events").scrollIntoView();
      }
    },
    "?": () => help.showModal(),
    Escape: () => form.reset(),
  };
  addEventListener("keydown", (event) => {
    const types = event.target.closest?.("input, select, textarea, dialog");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (types && !(event.key === "Escape" && types.name)) return;
    const act = keys[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });
})();
