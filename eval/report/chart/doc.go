// Package chart draws the plots of a report as SVG that stands inside an HTML page.
//
// In come values, out goes markup without a script, a font or an address. Colours
// are classes (c0, c1, ... and axis, grid, band), so that the page's style sheet
// chooses them for light, dark and paper; every series also has its own marker, so
// that nothing depends on telling two hues apart. Values that are not finite leave a
// gap. Equal values give equal bytes.
//
// A plot is drawn at 460 by 280 units with letters of 13: at the width of a phone
// they are still 10 pixels high, and two plots fit side by side on a desk.
package chart
