// The text: pieces as they come, then sentences with their confidence and region.

const HEADINGS = { findings: "Findings", impression: "Impression" };

/** Below this the mark is dotted: a difference that does not need colour. */
const LOW = 0.6;

export class Sheet {
  constructor(root, onPoint) {
    this.root = root;
    this.onPoint = onPoint;
    this.blocks = new Map();
  }

  clear() {
    this.root.replaceChildren();
    this.blocks.clear();
    this.onPoint(null);
  }

  /** The paragraph of a section, made when its first words come. */
  block(section) {
    let block = this.blocks.get(section);
    if (!block) {
      if (HEADINGS[section]) {
        const heading = document.createElement("h3");
        heading.textContent = HEADINGS[section];
        this.root.append(heading);
      }
      block = document.createElement("p");
      block.className = "block plain";
      this.root.append(block);
      this.blocks.forEach((other) => other.classList.remove("cursor"));
      this.blocks.set(section, block);
    }
    return block;
  }

  /** Adds streamed words. */
  add(section, text) {
    const block = this.block(section);
    block.classList.add("cursor");
    block.append(block.textContent ? text : text.trimStart());
  }

  /** No more words come. */
  end() {
    this.blocks.forEach((block) => block.classList.remove("cursor"));
  }

  /** Puts the finished report in place of what was streamed. */
  report(report) {
    this.clear();
    const sentences = report.sentences ?? [];
    for (const section of Object.keys(HEADINGS)) {
      const own = sentences.filter((sentence) => sentence.section === section);
      if (own.length > 0) {
        const block = this.block(section);
        block.classList.remove("plain");
        own.forEach((sentence, index) => {
          if (index > 0) block.append(" ");
          block.append(this.sentence(sentence));
        });
      } else if (report[section]) {
        this.block(section).textContent = report[section];
      }
    }
  }

  sentence(sentence) {
    const element = document.createElement("span");
    const percent = Math.round(sentence.confidence * 100);
    element.className = sentence.confidence < LOW ? "sentence low" : "sentence";
    // 50 % sure is as faint as none: the scale is that of words, which are rarely below it.
    element.style.setProperty("--sure", `${Math.max(12, Math.round((sentence.confidence - 0.5) * 200))}%`);
    element.textContent = sentence.text;
    element.setAttribute("role", "note");
    if (!sentence.region) element.title = `${percent} % sure of these words`;
    const spoken = document.createElement("span");
    spoken.className = "visually-hidden";
    spoken.textContent = ` (${percent} % sure of the words${sentence.region ? ", region shown on the picture" : ""})`;
    element.append(spoken);
    element.tabIndex = 0;
    const show = (on) => {
      element.classList.toggle("shown", on);
      this.onPoint(on ? sentence.region : null, `${percent} % sure`);
    };
    element.addEventListener("pointerenter", () => show(true));
    element.addEventListener("pointerleave", () => show(document.activeElement === element));
    element.addEventListener("focus", () => show(true));
    element.addEventListener("blur", () => show(false));
    element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") element.blur();
    });
    return element;
  }
}

/** A report as the text that people paste: sections, notice, origin. */
export function plainText(report) {
  const sections = Object.entries(HEADINGS).filter(([name]) => report[name]);
  const parts = sections.map(([name, heading]) => `${heading.toUpperCase()}\n${report[name]}`);
  return [...parts, `${report.notice}\n${origin(report)}`].join("\n\n") + "\n";
}

/** Model, images and seed in one line. */
export function origin(report) {
  const images = (report.images ?? []).map((image) => image.digest).join(" ");
  return `model ${report.model} · image ${images} · seed ${report.seed}`;
}
