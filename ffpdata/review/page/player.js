// Draws the panels of one video: whatever is seen of source, target and mask is of one and the same frame.

const DIFFERENCE_GAIN = 4;
const OUTLINE_WIDTH = 480;
const OUTLINE_COLOUR = [255, 214, 10, 255];
const SPEEDS = [0.25, 0.5, 1, 2];
const ZOOMS = [1, 2, 4];

export class Player {
  constructor(screen, changed) {
    this.screen = screen;
    this.changed = changed; // called after every frame that was drawn
    this.canvases = Object.fromEntries(
      [...screen.querySelectorAll("figure")].map((figure) => [figure.dataset.panel, figure.querySelector("canvas")]),
    );
    this.whole = document.createElement("canvas"); // the frame that all panels are painted from
    this.small = document.createElement("canvas"); // the mask, to find its outline
    this.view = "side";
    this.outline = false;
    this.blink = false;
    this.border = 0.5;
    this.speed = 1;
    this.loop = true;
    this.zoom = { scale: 1, x: 0.5, y: 0.5 };
    this.pair = null;
    this.video = null;
    this.frame = 0;
    this.asked = null; // the frame that a seek is on its way to
    for (const canvas of Object.values(this.canvases)) this.listen(canvas);
  }

  /** Show a pair: its poster at once, its video as soon as that has a frame. */
  show(pair, video, poster, reference) {
    this.video?.pause();
    this.detach?.abort();
    this.detach = new AbortController();
    Object.assign(this, { pair, video, poster, reference, frame: 0, asked: null });
    this.zoom = { scale: 1, x: 0.5, y: 0.5 };
    const third = pair.panels.includes("mask") ? "mask" : pair.files.includes("reference") ? "reference" : "";
    this.third = third;
    const figure = this.canvases.third.parentElement;
    figure.querySelector("figcaption").textContent = third;
    for (const canvas of Object.values(this.canvases)) {
      canvas.width = pair.width;
      canvas.height = pair.height;
    }
    const until = { signal: this.detach.signal };
    for (const image of [poster, reference]) image?.addEventListener("load", () => this.draw(), until);
    for (const kind of ["loadeddata", "seeked"]) video.addEventListener(kind, () => this.arrived(), until);
    for (const kind of ["play", "pause"]) video.addEventListener(kind, () => this.changed(), until);
    const presented = (_, facts) => {
      if (this.video !== video) return;
      if (!video.seeking) this.frame = this.frameAt(facts.mediaTime);
      this.draw();
      video.requestVideoFrameCallback(presented);
    };
    video.requestVideoFrameCallback(presented);
    this.apply();
    this.layout();
  }

  clear() {
    this.video?.pause();
    this.detach?.abort();
    this.pair = this.video = null;
  }

  get ready() {
    return this.video !== null && this.video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA;
  }

  apply() {
    if (!this.video) return;
    this.video.loop = this.loop;
    this.video.playbackRate = this.speed;
  }

  frameAt(seconds) {
    return Math.min(this.pair.frames - 1, Math.max(0, Math.round(seconds * this.pair.fps)));
  }

  /** Go to a frame. Seeks do not pile up: while one is on its way only the newest wish is kept. */
  seek(frame) {
    if (!this.pair) return;
    this.video.pause();
    this.asked = (frame + this.pair.frames) % this.pair.frames;
    if (!this.video.seeking) this.go();
  }

  go() {
    this.video.currentTime = (this.asked + 0.5) / this.pair.fps; // the middle of a frame is never its neighbour
  }

  arrived() {
    const now = Math.min(this.pair.frames - 1, Math.floor(this.video.currentTime * this.pair.fps));
    if (this.asked !== null && this.asked !== now) {
      this.go();
      return;
    }
    if (this.video.paused) this.frame = now;
    this.asked = null;
    this.draw();
  }

  step(by) {
    this.seek((this.asked ?? this.frame) + by);
  }

  toggle() {
    if (!this.video) return;
    if (this.video.paused) this.video.play().catch(() => {});
    else this.video.pause();
  }

  faster(by) {
    const place = SPEEDS.indexOf(this.speed) + by;
    this.speed = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, place))];
    this.apply();
  }

  nextZoom() {
    this.zoomTo(ZOOMS[(ZOOMS.indexOf(this.zoom.scale) + 1) % ZOOMS.length]);
  }

  zoomTo(scale, x = this.zoom.x, y = this.zoom.y) {
    const half = 0.5 / scale;
    const within = (value) => Math.min(1 - half, Math.max(half, value));
    this.zoom = { scale, x: within(x), y: within(y) };
    this.draw();
  }

  layout() {
    const wipe = this.view === "wipe";
    const figure = (name) => this.canvases[name].parentElement;
    this.screen.className = `${this.view} ${this.pair && !this.pair.column ? "portrait" : ""}`;
    figure("source").hidden = this.view !== "side";
    figure("third").hidden = !this.third || this.view !== "side";
    const names = { side: this.blink ? "source" : "target", wipe: "source | target", difference: "difference" };
    figure("target").querySelector("figcaption").textContent = names[this.view];
    if (this.pair) this.screen.style.setProperty("--ratio", this.pair.width / this.pair.height);
    this.canvases.target.style.cursor = wipe ? "ew-resize" : this.zoom.scale > 1 ? "grab" : "zoom-in";
    this.draw();
  }

  draw() {
    if (!this.pair) return;
    if (this.ready) this.capture();
    const { canvases, view } = this;
    const source = this.panel("source");
    const target = canvases.target.getContext("2d");
    if (view === "side") this.paint(canvases.source.getContext("2d"), source);
    this.paint(target, this.blink ? source : this.panel("target"));
    if (view === "difference") this.paintDifference(target);
    if (view === "wipe") this.paintWipe(target);
    if (view === "side" && this.third === "mask") this.paint(canvases.third.getContext("2d"), this.panel("mask"));
    if (view === "side" && this.third === "reference" && this.reference.complete) {
      this.paintWhole(canvases.third, this.reference);
    }
    if (this.outline && this.third === "mask") this.paintOutline(view === "side" ? ["source", "target"] : ["target"]);
    this.changed();
  }

  /** Copy the frame: a video that plays may go on between two looks at it. */
  capture() {
    const { whole, video } = this;
    if (whole.width !== video.videoWidth || whole.height !== video.videoHeight) {
      whole.width = video.videoWidth;
      whole.height = video.videoHeight;
    }
    whole.getContext("2d").drawImage(video, 0, 0);
  }

  /** Part of the picture that a panel shows now: [image, x, y, width, height]. */
  panel(name) {
    const [image, width, height] = this.ready
      ? [this.whole, this.whole.width, this.whole.height]
      : [this.poster, this.poster.naturalWidth, this.poster.naturalHeight];
    if (!width) return null;
    const { panels, column } = this.pair;
    const place = panels.indexOf(name);
    const w = column ? width : width / panels.length;
    const h = column ? height / panels.length : height;
    const { scale, x, y } = this.zoom;
    return [
      image,
      (column ? 0 : place * w) + w * (x - 0.5 / scale),
      (column ? place * h : 0) + h * (y - 0.5 / scale),
      w / scale,
      h / scale,
    ];
  }

  paint(context, part) {
    if (part) context.drawImage(...part, 0, 0, context.canvas.width, context.canvas.height);
  }

  paintWhole(canvas, image) {
    const context = canvas.getContext("2d");
    const scale = Math.min(canvas.width / image.naturalWidth, canvas.height / image.naturalHeight);
    const [w, h] = [image.naturalWidth * scale, image.naturalHeight * scale];
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
  }

  paintDifference(context) {
    context.globalCompositeOperation = "difference";
    this.paint(context, this.panel("source"));
    context.globalCompositeOperation = "lighter";
    for (let gain = 1; gain < DIFFERENCE_GAIN; gain *= 2) context.drawImage(context.canvas, 0, 0); // each doubles it
    context.globalCompositeOperation = "source-over";
  }

  paintWipe(context) {
    const { width, height } = context.canvas;
    const cut = width * this.border;
    context.save();
    context.beginPath();
    context.rect(0, 0, cut, height);
    context.clip();
    this.paint(context, this.panel("source"));
    context.restore();
    context.fillStyle = "#fff";
    context.fillRect(cut - 1, 0, 2, height);
  }

  paintOutline(names) {
    const part = this.panel("mask");
    if (!part) return;
    const { small } = this;
    small.width = Math.min(OUTLINE_WIDTH, this.pair.width);
    small.height = Math.round((small.width * this.pair.height) / this.pair.width);
    const context = small.getContext("2d", { willReadFrequently: true });
    this.paint(context, part);
    const image = context.getImageData(0, 0, small.width, small.height);
    const { data, width, height } = image;
    const inside = Uint8Array.from({ length: width * height }, (_, i) => data[4 * i] >> 7);
    data.fill(0);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const i = y * width + x;
        const all = inside[i - 1] & inside[i + 1] & inside[i - width] & inside[i + width];
        if (inside[i] && !all) data.set(OUTLINE_COLOUR, 4 * i);
      }
    }
    context.putImageData(image, 0, 0);
    for (const name of names) {
      const { width: w, height: h } = this.canvases[name];
      this.canvases[name].getContext("2d").drawImage(small, 0, 0, w, h);
    }
  }

  listen(canvas) {
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    const toWipe = (event) => {
      [this.border] = at(event).map((v) => Math.min(1, Math.max(0, v)));
      this.draw();
    };
    let dragged = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      dragged = { from: at(event), zoom: { ...this.zoom }, moved: false };
      if (this.view === "wipe") toWipe(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!dragged) return;
      const [x, y] = at(event);
      const [dx, dy] = [x - dragged.from[0], y - dragged.from[1]];
      dragged.moved ||= Math.abs(dx) + Math.abs(dy) > 0.01;
      if (this.view === "wipe") toWipe(event);
      else if (dragged.moved) {
        const { scale, x: fromX, y: fromY } = dragged.zoom;
        this.zoomTo(scale, fromX - dx / scale, fromY - dy / scale);
      }
    });
    canvas.addEventListener("pointerup", (event) => {
      if (dragged && !dragged.moved && this.view !== "wipe") {
        const larger = this.zoom.scale === 1 ? 2 : 1;
        this.zoomTo(larger, ...at(event));
        this.layout();
      }
      dragged = null;
    });
    canvas.addEventListener("pointercancel", () => (dragged = null));
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.shiftKey && this.zoom.scale === 1 && event.deltaY > 0) return; // the page scrolls
        event.preventDefault();
        const [x, y] = at(event);
        const { scale, x: cx, y: cy } = this.zoom;
        const wanted = Math.min(8, Math.max(1, scale * (event.deltaY < 0 ? 1.25 : 0.8)));
        // What is under the pointer stays there.
        const moved = (centre, p) => centre + (p - 0.5) / scale - (p - 0.5) / wanted;
        this.zoomTo(wanted, moved(cx, x), moved(cy, y));
      },
      { passive: false },
    );
  }
}
