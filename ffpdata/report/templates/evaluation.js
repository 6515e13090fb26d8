"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);
  const form = one("#tools");
  if (!form) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const APART = 0.08; // seconds that clips of one strip may be apart
  let playing = !calm;
  const near = new Set();

  // The videos of a strip are made when it comes near, and taken away when it leaves: a browser decodes few at once.
  const fill = (strip) => {
    for (const screen of all(".clip-screen[data-src]", strip)) {
      if (one("video", screen)) continue;
      const video = document.createElement("video");
      Object.assign(video, { muted: true, playsInline: true, preload: "auto", tabIndex: -1, src: screen.dataset.src });
      video.setAttribute("aria-label", screen.dataset.label);
      video.addEventListener("error", () => {
        screen.textContent = "cannot be played";
      });
      video.addEventListener("ended", () => again(strip));
      screen.replaceChildren(video);
    }
  };
  const clear = (strip) => all("video", strip).forEach((video) => {
    video.pause();
    video.removeAttribute("src");
    video.load();
    video.remove();
  });
  const again = (strip) => {
    const videos = all("video", strip);
    if (!playing || videos.some((video) => !video.ended && !video.paused)) return;
    for (const video of videos) video.currentTime = 0;
    for (const video of videos) video.play().catch(() => {});
  };
  const update = (strip) => {
    if (near.has(strip) && strip.offsetParent) {
      fill(strip);
      for (const video of all("video", strip)) {
        if (playing) video.play().catch(() => {});
        else video.pause();
      }
    } else clear(strip);
  };
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) near.add(entry.target);
      else near.delete(entry.target);
      update(entry.target);
    }
  }, { threshold: 0.1 });
  const strips = all(".strip");
  for (const strip of strips) watch.observe(strip);
  setInterval(() => {
    for (const strip of near) {
      const videos = all("video", strip).filter((video) => !video.ended && video.readyState > 1);
      const lead = videos[0];
      for (const video of videos.slice(1)) {
        if (Math.abs(video.currentTime - lead.currentTime) > APART) video.currentTime = lead.currentTime;
      }
    }
  }, 400);

  const button = one("#play");
  const show = () => {
    button.textContent = playing ? "Pause" : "Play";
    strips.forEach(update);
  };
  button.addEventListener("click", () => {
    playing = !playing;
    show();
  });
  const choose = () => {
    for (const group of all(".show")) group.hidden = group.dataset.metric !== form.elements.metric.value;
    strips.forEach(update);
  };
  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  choose();
  show();
})();
