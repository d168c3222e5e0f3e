"use strict";
// One slice at a time, large, with a slider; without this script all slices stand side by side.
for (const box of document.querySelectorAll("[data-slices]")) {
  const figures = Array.from(box.querySelectorAll("figure"));
  if (figures.length < 2) continue;
  const label = document.createElement("label");
  const slider = document.createElement("input");
  const all = document.createElement("button");
  label.textContent = "Slice ";
  label.className = "slider no-print";
  slider.type = "range";
  slider.min = "0";
  slider.max = String(figures.length - 1);
  slider.value = "0";
  all.type = "button";
  all.className = "no-print";
  all.textContent = "Show one at a time";
  all.setAttribute("aria-pressed", "false");
  label.append(slider);
  label.hidden = true;
  box.before(all, label);
  const update = () => {
    const one = all.getAttribute("aria-pressed") === "true";
    box.classList.toggle("one", one);
    label.hidden = !one;
    figures.forEach((figure, i) => figure.classList.toggle("shown", i === Number(slider.value)));
    slider.setAttribute("aria-valuetext", figures[Number(slider.value)].querySelector("figcaption").textContent);
  };
  slider.addEventListener("input", update);
  all.addEventListener("click", () => {
    all.setAttribute("aria-pressed", String(all.getAttribute("aria-pressed") !== "true"));
    update();
  });
  update();
}
