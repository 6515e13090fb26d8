"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);
  const tools = one("#tools");
  if (!tools) return;
  const cards = all(".card");
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let playing = !calm;
  const visible = new Set();

  // --- playing: only what is on the screen, loaded when it comes near ---
  const videoOf = (card) => one("video", card);
  const load = (video) => {
    if (!video.src) video.src = video.dataset.src;
  };
  const update = (card) => {
    const video = videoOf(card);
    if (playing && !card.hidden && visible.has(card) && !closer.open) {
      load(video);
      video.play().catch(() => {});
    } else {
      video.pause();
    }
  };
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) visible.add(entry.target);
      else visible.delete(entry.target);
      update(entry.target);
    }
  }, { threshold: 0.35 });

  const playButton = one("#play");
  const showPlaying = () => {
    playButton.textContent = playing ? "Pause" : "Play";
    playButton.setAttribute("aria-pressed", String(playing));
    cards.forEach(update);
  };
  playButton.addEventListener("click", () => {
    playing = !playing;
    showPlaying();
  });

  // --- filters ---
  const words = new Map(cards.map((card) => [card, one(".text", card).textContent.toLowerCase()]));
  const kinds = [...new Set(all("input[type=radio]", tools).map((radio) => radio.name))];
  const shown = () => cards.filter((card) => !card.hidden);
  const filter = () => {
    const chosen = Object.fromEntries(kinds.map((name) => [name, tools.elements[name].value]));
    const wanted = tools.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const named = cards.filter((card) => wanted.every((word) => words.get(card).includes(word)));
    const fits = (card, want) => Object.entries(want).every(([name, value]) => !value || card.dataset[name] === value);
    for (const card of cards) {
      card.hidden = !(named.includes(card) && fits(card, chosen));
      update(card);
    }
    // Beside every choice stands how many pairs it would leave.
    for (const radio of all("input[type=radio]", tools)) {
      const number = one("b", radio.parentElement);
      const want = { ...chosen, [radio.name]: radio.value };
      if (number) number.textContent = named.filter((card) => fits(card, want)).length;
    }
    const count = shown().length;
    one("#count").textContent = count === 1 ? "1 pair" : `${count} pairs`;
    one("#none").hidden = count > 0;
  };
  tools.addEventListener("input", filter);
  tools.addEventListener("submit", (event) => event.preventDefault());
  one("#reset").addEventListener("click", () => {
    for (const radio of all("input[type=radio]", tools)) radio.checked = radio.value === "";
    tools.elements.words.value = "";
    filter();
  });

  // --- a closer look ---
  const closer = one("#closer");
  const large = one("video", closer);
  const canvas = one("#wipe");
  const border = one("#border");
  const seek = one("#seek");
  let current = null;

  const panels = (card) => (one(".screen", card).classList.contains("panels-3") ? 3 : 2);
  // Which two panels a wipe lays over each other.
  const wiped = (card) => (one(".screen", card).dataset.wipe || `0 ${panels(card) - 1}`).split(" ").map(Number);
  const show = (card) => {
    current = card;
    const small = videoOf(card);
    load(small);
    large.poster = small.poster;
    large.src = small.src;
    one("#closer-title").textContent = one("h3", card).textContent;
    const screen = one("#closer-screen");
    screen.className = one(".screen", card).className;
    screen.replaceChildren(large, ...all(".gap", card).map((gap) => gap.cloneNode()));
    const labels = one("#closer-labels");
    labels.className = one(".labels", card).className;
    labels.replaceChildren(...[...one(".labels", card).children].map((label) => label.cloneNode(true)));
    one("#closer-text").replaceChildren(one("template", card).content.cloneNode(true));
    if (!closer.open) closer.showModal();
    cards.forEach(update);
    setView();
    if (!calm) large.play().catch(() => {});
    showToggle();
  };
  const setView = () => {
    const wipe = one("input[name=view]:checked", closer).value === "wipe";
    one("#closer-screen").hidden = wipe;
    one("#closer-labels").hidden = wipe;
    one("#wipe-tool").hidden = !wipe;
    canvas.hidden = !wipe;
    draw();
  };
  const draw = () => {
    if (!closer.open || canvas.hidden || !large.videoWidth) return;
    const width = large.videoWidth / panels(current);
    const height = large.videoHeight;
    const scale = Math.max(1, Math.min(3, 1100 / width));
    if (canvas.width !== Math.round(width * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const context = canvas.getContext("2d");
    const cut = (canvas.width * border.value) / 100;
    const [left, right] = wiped(current);
    const name = (panel) => one(".labels", current).children[panel].textContent;
    context.drawImage(large, right * width, 0, width, height, 0, 0, canvas.width, canvas.height);
    context.save();
    context.beginPath();
    context.rect(0, 0, cut, canvas.height);
    context.clip();
    context.drawImage(large, left * width, 0, width, height, 0, 0, canvas.width, canvas.height);
    context.restore();
    context.fillStyle = "#fff";
    context.fillRect(cut - 1, 0, 2, canvas.height);
    context.font = "14px system-ui, sans-serif";
    context.shadowColor = "#000";
    context.shadowBlur = 4;
    if (cut > 90) context.fillText(name(left), 12, canvas.height - 14);
    context.textAlign = "right";
    if (cut < canvas.width - 90) context.fillText(name(right), canvas.width - 12, canvas.height - 14);
    context.textAlign = "left";
    context.shadowBlur = 0;
  };
  const tick = () => {
    if (closer.open) {
      if (large.duration && !seek.matches(":active")) seek.value = (1000 * large.currentTime) / large.duration;
      draw();
      requestAnimationFrame(tick);
    }
  };
  const showToggle = () => {
    one("#toggle").textContent = large.paused ? "Play" : "Pause";
  };
  const step = (by) => {
    const list = shown();
    if (list.length) show(list[(list.indexOf(current) + by + list.length) % list.length]);
  };
  const drag = (event) => {
    if (event.type === "pointerdown") canvas.setPointerCapture(event.pointerId);
    if (event.buttons & 1) {
      const box = canvas.getBoundingClientRect();
      border.value = (100 * (event.clientX - box.left)) / box.width;
      draw();
    }
  };
  for (const card of cards) {
    watch.observe(card);
    const open = () => {
      show(card);
      requestAnimationFrame(tick);
    };
    one(".open", card).addEventListener("click", open);
    one(".screen", card).addEventListener("click", open);
  }
  for (const radio of all("input[name=view]", closer)) radio.addEventListener("change", setView);
  border.addEventListener("input", draw);
  canvas.addEventListener("pointerdown", drag);
  canvas.addEventListener("pointermove", drag);
  seek.addEventListener("input", () => {
    if (large.duration) large.currentTime = (seek.value / 1000) * large.duration;
  });
  one("#toggle").addEventListener("click", () => {
    if (large.paused) large.play().catch(() => {});
    else large.pause();
  });
  for (const kind of ["play", "pause"]) large.addEventListener(kind, showToggle);
  one("#previous").addEventListener("click", () => step(-1));
  one("#next").addEventListener("click", () => step(1));
  closer.addEventListener("keydown", (event) => {
    if (event.target.matches("input")) return;
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  closer.addEventListener("click", (event) => {
    if (event.target === closer) closer.close();
  });
  closer.addEventListener("close", () => {
    large.pause();
    cards.forEach(update);
    if (current) one(".open", current).focus();
  });

  showPlaying();
  filter();
})();
