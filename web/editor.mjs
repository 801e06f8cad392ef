/* Code that can be edited: a text area without color above the same text in color. Everything the keyboard can do in a text
 * area works (undo, selection, input methods); Tab indents, and after Escape it leaves the field as usual. */
const TOKENS = new RegExp(
  [
    "(?<c1>#.*)",
    "(?<s2>[rbfuRBFU]{0,2}(?:\"\"\"[\\s\\S]*?(?:\"\"\"|$)|'''[\\s\\S]*?(?:'''|$)|\"(?:\\\\.|[^\"\\\\\\n])*\"?|'(?:\\\\.|[^'\\\\\\n])*'?))",
    "(?<mi>\\b\\d[\\w.]*)",
    "(?<k>\\b(?:and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield)\\b)",
    "(?<kc>\\b(?:True|False|None)\\b)",
    "(?<n>\\w+)",
  ].join("|"),
  "g",
);

/** Code as nodes with the classes of the book's own highlighting. */
export function colored(code) {
  const out = document.createDocumentFragment();
  let at = 0;
  for (const match of code.matchAll(TOKENS)) {
    const span = document.createElement("span");
    span.className = Object.keys(match.groups).find((kind) => match.groups[kind] !== undefined);
    span.textContent = match[0];
    out.append(code.slice(at, match.index), span);
    at = match.index + match[0].length;
  }
  out.append(code.slice(at) + "\n"); // a last empty line has its height, too
  return out;
}

/** An editor for `code`. `typed(text)` is called at each change, `submit(event)` for Shift+Enter and Ctrl+Enter. */
export function makeEditor(code, label, typed, submit) {
  const box = document.createElement("div"), back = document.createElement("pre"), area = document.createElement("textarea");
  box.className = "dn-editor highlight";
  back.setAttribute("aria-hidden", "true");
  Object.assign(area, { value: code, spellcheck: false, autocapitalize: "off", autocomplete: "off" });
  area.setAttribute("aria-label", label);
  let leave = false;
  const draw = () => back.replaceChildren(colored(area.value));
  area.addEventListener("input", () => (draw(), typed(area.value)));
  area.addEventListener("blur", () => (leave = false));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.shiftKey || event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit(event);
    } else if (event.key === "Escape") leave = true;
    else if (event.key === "Tab" && !event.shiftKey && !leave) {
      event.preventDefault();
      insert(area, "    ");
    } else if (event.key === "Enter") {
      const line = area.value.slice(0, area.selectionStart).split("\n").pop();
      event.preventDefault();
      insert(area, "\n" + line.match(/^ */)[0] + (/:\s*(#.*)?$/.test(line) ? "    " : ""));
    }
  });
  draw();
  box.append(back, area);
  return { box, area, get code() { return area.value; }, set code(text) { area.value = text; draw(); } };
}

function insert(area, text) {
  // execCommand keeps the field's own undo, which setRangeText does not; where it is gone, undo is what is lost
  if (!document.execCommand("insertText", false, text)) {
    area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new Event("input"));
  }
}
