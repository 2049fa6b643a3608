// Code and wide tables scroll inside the page: let the keyboard reach them.
addEventListener("DOMContentLoaded", () => document.querySelectorAll(".highlight pre, .output pre, .output.text_html, .table-wrapper")
  .forEach(e => { if (e.scrollWidth > e.clientWidth) e.tabIndex = 0; }));
