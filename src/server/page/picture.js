// The picture: choosing it, showing it, and the region that a sentence looked at.

const LARGEST = 64 * 1024 * 1024;

/** A file as `{ name, url, dicom }`, `url` a data URI; throws an Error with a message for people. */
export async function readFile(file) {
  if (file.size === 0) throw new Error(`${file.name || "The file"} is empty.`);
  if (file.size > LARGEST) throw new Error(`${file.name || "The file"} is larger than 64 MB.`);
  const head = new Uint8Array(await file.slice(0, 132).arrayBuffer());
  const magic = String.fromCharCode(...head.slice(128, 132));
  const dicom = magic === "DICM" || /\.(dcm|dicom)$/i.test(file.name) || file.type === "application/dicom";
  const bytes = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name || "The file"} cannot be read.`));
    reader.readAsDataURL(file);
  });
  const type = dicom ? "application/dicom" : file.type || "application/octet-stream";
  return { name: file.name || "pasted picture", url: `data:${type};base64,${bytes.slice(bytes.indexOf(",") + 1)}`, dicom };
}

/** Shows pictures and regions. */
export class Stage {
  constructor(root) {
    this.stage = root.querySelector("#stage");
    this.image = root.querySelector("#image");
    this.layer = root.querySelector("#regions");
    this.placeholder = root.querySelector("#placeholder");
    this.size = null;
    this.box = document.createElement("div");
    this.box.className = "region";
    this.layer.append(this.box);
    this.image.addEventListener("load", () => {
      this.stage.style.setProperty("--ratio", this.image.naturalWidth / this.image.naturalHeight);
      this.place();
    });
    this.image.addEventListener("error", () => this.showPlaceholder("This picture cannot be shown here. The server can read it."));
    new ResizeObserver(() => this.place()).observe(this.stage);
  }

  /** Shows a picture that was read. A DICOM file has nothing to show until the server sends a preview. */
  show(picture) {
    this.size = null;
    this.region = null;
    this.box.classList.remove("shown");
    this.stage.hidden = false;
    if (picture.dicom) {
      this.showPlaceholder("A DICOM file. Its picture appears with the report.");
    } else {
      this.showImage(picture.url, `The chosen picture, ${picture.name}`);
    }
  }

  showPlaceholder(text) {
    this.image.hidden = true;
    this.placeholder.hidden = false;
    this.placeholder.textContent = text;
  }

  showImage(url, description) {
    this.placeholder.hidden = true;
    this.image.hidden = false;
    this.image.alt = description;
    this.image.src = url;
  }

  /** Takes what the report says of the picture: its size in pixels and, where there is one, the preview. */
  described(image, name) {
    if (!image) return;
    this.size = { width: image.width, height: image.height };
    if (image.preview) this.showImage(image.preview, `Preview of ${name}`);
  }

  /** Shows a region with its label, or none. */
  point(region, label = "") {
    this.box.dataset.label = label;
    this.region = region && region.image === 0 && !this.image.hidden ? region : null;
    this.box.classList.toggle("shown", Boolean(this.region));
    this.place();
  }

  place() {
    if (!this.region) return;
    const { naturalWidth, naturalHeight, offsetLeft, offsetTop, clientWidth, clientHeight } = this.image;
    const { width, height } = this.size ?? { width: naturalWidth, height: naturalHeight };
    const [left, top, right, bottom] = this.region.bbox;
    const across = clientWidth / width;
    const down = clientHeight / height;
    // Near the upper edge there is no room for the label above.
    this.box.classList.toggle("high", offsetTop + top * down < 24);
    Object.assign(this.box.style, {
      left: `${offsetLeft + left * across}px`,
      top: `${offsetTop + top * down}px`,
      width: `${(right - left) * across}px`,
      height: `${(bottom - top) * down}px`,
    });
  }
}
