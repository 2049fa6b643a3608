// Code, wide tables and pictures scroll inside the page: let the keyboard reach them.
addEventListener("DOMContentLoaded", () => document.querySelectorAll(".highlight pre, .output pre, .output.text_html, .table-wrapper, .cell_output:has(> img)")
  .forEach(e => { if (e.scrollWidth > e.clientWidth) e.tabIndex = 0; }));
