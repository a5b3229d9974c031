/* Keys on the page of an exposure: A to D grade it, N and P go to the next and the previous one, W to the words. */
"use strict";
(() => {
  const form = document.querySelector("form.grading");
  const press = (selector) => {
    const found = document.querySelector(selector);
    if (found) found.click();
    return Boolean(found);
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const field = event.target.closest("input[type=text], textarea, select");
    if (field) {
      if (event.key === "Escape") field.blur();
      return;
    }
    const key = event.key.toLowerCase();
    let done = false;
    if (/^[a-d]$/.test(key) && form) done = !event.repeat && press(`.buttons button[value="${key.toUpperCase()}"]`);
    else if (/^[1-9]$/.test(key) && form) done = press(`form.grading [data-number="${key}"]`);
    else if (key === "n" || key === "arrowright") done = press("a[rel=next]");
    else if (key === "p" || key === "arrowleft") done = press("a[rel=prev]");
    else if (key === "w" && form) {
      form.elements.words.focus();
      done = true;
    }
    if (done) event.preventDefault();
  });
})();
