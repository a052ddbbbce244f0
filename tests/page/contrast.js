// Measures the contrast of all visible text by WCAG 2.2: https://www.w3.org/TR/WCAG22/#contrast-minimum

const ENOUGH = 4.5;

/** The number of elements with text of their own, and the texts that are too faint. */
export function measureContrast(page) {
  return page.evaluate((enough) => {
    const parse = (color) => color.match(/[\d.]+/g).map(Number);
    const luminance = (color) => {
      const [red, green, blue] = color
        .slice(0, 3)
        .map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const groundOf = (element) => {
      const color = parse(getComputedStyle(element).backgroundColor);
      return color[3] === 0 ? groundOf(element.parentElement) : color;
    };
    const hasText = (element) =>
      [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    const shown = [...document.body.querySelectorAll("*")].filter(
      (each) => hasText(each) && each.checkVisibility(),
    );
    const faint = shown.filter((each) => {
      const [dark, light] = [parse(getComputedStyle(each).color), groundOf(each)]
        .map(luminance)
        .sort((a, b) => a - b);
      return (light + 0.05) / (dark + 0.05) < enough;
    });
    return { measured: shown.length, faint: faint.map((each) => each.textContent) };
  }, ENOUGH);
}
