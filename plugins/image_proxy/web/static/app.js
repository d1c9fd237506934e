// Selection, dialogs, links into Airflow, and the comparison. Everything else is the server's HTML, swapped by htmx.
"use strict";
(() => {
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));

  // Links into Airflow's own pages leave this frame by the outer page's router: the sandbox allows no other way.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-airflow]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || window.parent === window) return;
    event.preventDefault();
    window.parent.history.pushState({}, "", link.href);
    window.parent.dispatchEvent(new PopStateEvent("popstate", { state: {} }));
  });

  // -- selection ------------------------------------------------------------------------------------------------
  const BOXES = ".card input[name=file_ids]";
  const chosen = () => all(`${BOXES}:checked`);
  function showSelection() {
    const bar = document.getElementById("selection");
    if (!bar) return;
    const boxes = all(BOXES);
    const picked = chosen();
    const images = picked.every((box) => box.dataset.image === "true");
    for (const box of boxes) box.closest(".card").classList.toggle("selected", box.checked);
    for (const button of all("button[data-batch]", bar)) {
      button.disabled = picked.length === 0 || !images || button.dataset.allowed !== "true";
    }
    const every = bar.querySelector("#select-page");
    every.checked = boxes.length > 0 && picked.length === boxes.length;
    every.indeterminate = picked.length > 0 && picked.length < boxes.length;
    const said = picked.length === 0 ? "Nothing selected" : `${picked.length} selected`;
    const why = picked.length > 0 && !images ? ": only images can be made proxies of" : "";
    bar.querySelector("output").textContent = said + why;
  }
  let last = null;
  document.addEventListener("click", (event) => {
    const box = event.target.closest(BOXES);
    if (!box) return;
    if (event.shiftKey && last && last.isConnected) {
      const boxes = all(BOXES);
      const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
      for (const between of boxes.slice(from, to + 1)) between.checked = box.checked;
    }
    last = box;
    showSelection();
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "select-page") {
      for (const box of all(BOXES)) box.checked = event.target.checked;
      showSelection();
    }
  });

  // -- dialogs: confirm() is blocked in Airflow's frame -------------------------------------------------------------
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
    if (event.target.closest("[data-dismiss]")) event.target.closest("section").remove();
    const opens = event.target.closest("[data-open]");
    if (opens) document.getElementById(opens.dataset.open).showModal();
  });
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.elt.matches("[data-close-after]")) event.detail.elt.closest("dialog").close();
  });
  // Parts of the page are swapped while a person chooses images: what was chosen stays so.
  let before = new Set();
  document.body.addEventListener("htmx:beforeSwap", () => {
    before = new Set(chosen().map((box) => box.value));
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    for (const box of all(BOXES)) box.checked = box.checked || before.has(box.value);
    if (event.detail.target.id === "dialog-body") {
      const dialog = document.getElementById("dialog");
      if (!dialog.open) dialog.showModal();
    }
    showSelection();
    prepare(event.detail.target);
  });
  document.body.addEventListener("dialog-done", () => {
    document.getElementById("dialog").close();
    for (const box of chosen()) box.checked = false;
    showSelection();
  });

  // What the server refuses is said where it was asked for, in the server's words.
  document.body.addEventListener("htmx:responseError", (event) => {
    let text = `The server answered ${event.detail.xhr.status}.`;
    try {
      const problem = JSON.parse(event.detail.xhr.responseText);
      text = problem.detail || problem.title || text;
    } catch {
      // not a problem document: the status has to do
    }
    const { elt, xhr } = event.detail;
    if (!polls(elt)) return say(text);
    note(text, true);
    if (xhr.status < 500 && xhr.status !== 429) stopPolling(elt); // logged out, no right, gone: asking again is no use
  });
  document.body.addEventListener("htmx:sendError", (event) => {
    if (polls(event.detail.elt)) note("Airflow's server cannot be reached; asking again.", true);
    else say("Airflow's server cannot be reached; nothing was sent.");
  });
  function say(text) {
    note(text, false);
    document.getElementById("dialog")?.close();
  }
  function note(text, passing) {
    const place = document.getElementById("said");
    if (place.textContent === text) return; // said once, also to a screen reader
    const said = document.createElement("p");
    said.className = "notice bad";
    said.textContent = text;
    if (passing) said.dataset.passing = "";
    place.replaceChildren(said);
  }

  // -- parts that ask for themselves again every second -------------------------------------------------------------
  const polls = (part) => part.matches("[hx-trigger^='every']");
  function stopPolling(part) {
    const still = part.cloneNode(true);
    for (const name of ["hx-get", "hx-trigger", "aria-busy"]) still.removeAttribute(name);
    part.replaceWith(still);
    htmx.process(still);
  }
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status === 200 && polls(event.detail.elt)) document.querySelector("#said [data-passing]")?.remove();
  });

  // -- the comparison -----------------------------------------------------------------------------------------------
  function prepare(root) {
    for (const stage of all(".stage[data-width]", root)) {
      const [width, height] = [Number(stage.dataset.width), Number(stage.dataset.height)];
      stage.style.aspectRatio = `${width} / ${height}`;
      for (const name of all(".name-of", stage)) {
        name.style.left = `${Number(name.dataset.x) / 10}%`;
        name.style.top = `${Number(name.dataset.y) / 10}%`;
      }
      stage.style.maxWidth = `min(100%, ${Math.round((760 * width) / height)}px)`;
    }
  }
  document.addEventListener("input", (event) => {
    if (event.target.id === "slide") {
      const stage = document.getElementById("stage");
      stage.style.setProperty("--at", `${event.target.value}%`);
      event.target.setAttribute("aria-valuetext", `${event.target.value} % of the width shows the original`);
    }
    if (event.target.id === "show-boxes") {
      for (const part of all("#boxes, .name-of")) part.toggleAttribute("hidden", !event.target.checked);
    }
  });
  document.addEventListener("pointerdown", (event) => {
    const stage = event.target.closest(".stage[data-slides]");
    if (!stage) return;
    const move = (at) => {
      const box = stage.getBoundingClientRect();
      const slide = document.getElementById("slide");
      slide.value = Math.max(0, Math.min(100, (100 * (at.clientX - box.left)) / box.width));
      slide.dispatchEvent(new Event("input", { bubbles: true }));
    };
    move(event);
    stage.setPointerCapture(event.pointerId);
    stage.addEventListener("pointermove", move);
    stage.addEventListener("pointerup", () => stage.removeEventListener("pointermove", move), { once: true });
  });
  for (const kind of ["pointerover", "pointerout", "focusin", "focusout"]) {
    document.addEventListener(kind, (event) => {
      const named = event.target.closest?.("[data-box]");
      if (!named) return;
      const lit = kind === "pointerover" || kind === "focusin";
      document.querySelector(`#boxes g[data-is="${Number(named.dataset.box)}"]`)?.classList.toggle("lit", lit);
    });
  }

  // A picture that the browser cannot show gives way to words.
  document.addEventListener("error", (event) => {
    const picture = event.target;
    if (!(picture instanceof HTMLImageElement) || !picture.closest(".thumb")) return;
    const place = picture.closest(".thumb");
    place.classList.add("none");
    place.replaceChildren("Not available");
  }, true);

  showSelection();
  prepare(document);
})();
