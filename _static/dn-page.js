/* Deep Notes, every page: on paper everything is unfolded. */
(function () {
  "use strict";
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(".bd-article details:not([open]):not(.dn-doc)")];
    opened.forEach((e) => (e.open = true));
    document.querySelectorAll("img[loading=lazy]").forEach((e) => e.removeAttribute("loading"));
  });
  window.addEventListener("afterprint", () => opened.forEach((e) => (e.open = false)));
})();
