// Where answers come from: a server, a notebook kernel, or the page itself. One call: ask(question, arguments) -> tree.

const KINDS = { "<f8": Float64Array, "<f4": Float32Array, "<i4": Int32Array, "<u4": Uint32Array, "|u1": Uint8Array,
  "|b1": Uint8Array, "<i8": BigInt64Array };

/** A block of `packing.py`: JSON that points into the arrays behind it. */
export function unpack(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const tree = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const start = 4 + size;
  const found = (value) => {
    if (Array.isArray(value)) return value.map(found);
    if (value === null || typeof value !== "object") return value;
    if ("dtype" in value && "offset" in value) {
      const count = value.shape.reduce((a, b) => a * b, 1);
      const array = new KINDS[value.dtype](buffer, start + value.offset, count);
      const plain = value.dtype === "<i8" ? Float64Array.from(array, Number) : array;
      plain.shape = value.shape;
      return plain;
    }
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, found(v)]));
  };
  return found(tree);
}

/** Asks the server that sent this page. Paths are relative, so any prefix of a proxy works. */
export function httpSource(token) {
  return {
    live: true,
    async ask(question, args = {}) {
      const answer = await fetch(`api/${question}`, {
        method: "POST", headers: { "x-molifold-token": token, "content-type": "application/json" },
        body: JSON.stringify(args),
      });
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `status ${answer.status}`);
      return unpack(await answer.arrayBuffer());
    },
  };
}

/** Answers that were written into the page by `export.py`: `{key: base64}`. Some frames of all are a slice of them. */
export function pageSource(blocks) {
  const kept = new Map();
  const read = (name) => {
    if (!(name in blocks)) throw new Error("not in this file: open the run with molifold watch for it");
    if (!kept.has(name)) kept.set(name, unpack(Uint8Array.from(atob(blocks[name]), (c) => c.charCodeAt(0)).buffer));
    return kept.get(name);
  };
  return {
    live: false,
    async ask(question, args = {}) {
      if (question === "frames") {
        const { x } = read(key("all frames", { name: args.name })), size = x.shape[1] * 3, out = new Float32Array(args.rows.length * size);
        args.rows.forEach((r, k) => out.set(x.subarray(r * size, (r + 1) * size), k * size));
        return { x: out, rows: args.rows };
      }
      if (question === "rows") {
        const { values, names } = read(key("all rows", { name: args.name })), n = values.shape[1];
        const rows = args.rows ?? Array.from({ length: n }, (_, i) => i), out = new Float32Array(names.length * rows.length);
        for (let q = 0; q < names.length; q += 1) rows.forEach((r, k) => { out[q * rows.length + k] = values[q * n + r]; });
        out.shape = [names.length, rows.length];
        return { values: out, rows, names };
      }
      return read(key(question, args));
    },
  };
}

export const key = (question, args) =>
  `${question} ${JSON.stringify(Object.fromEntries(Object.entries(args).filter(([, v]) => v !== undefined).sort()))}`;

/** Asks the kernel of a notebook by custom messages of an anywidget model. */
export function widgetSource(model) {
  const waiting = new Map();
  let last = 0;
  model.on("msg:custom", (message, buffers) => {
    const wait = waiting.get(message.id);
    if (!wait) return;
    waiting.delete(message.id);
    if (message.error) wait.reject(new Error(message.error));
    else {
      const view = buffers[0];
      wait.resolve(unpack(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)));
    }
  });
  return {
    live: true,
    ask: (question, args = {}) => new Promise((resolve, reject) => {
      last += 1;
      waiting.set(last, { resolve, reject });
      model.send({ id: last, question, args });
    }),
  };
}
