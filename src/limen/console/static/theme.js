// Runs before the first paint: a stored choice of theme wins over the system's.
"use strict";
try {
  const theme = localStorage.getItem("limen-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* storage is blocked: follow the system */ }
