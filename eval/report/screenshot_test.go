package report

import (
	"context"
	"fmt"
	"html"
	"image"
	"image/draw"
	"image/png"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"quantize/internal/atomicfile"
)

// screenshotsEnv asks for the test: `make report-screenshots` sets it. Its value is a
// report to look at, or "tiny" for one of a random model.
const screenshotsEnv = "QUANTIZE_REPORT_SCREENSHOTS"

// pageToSee gives the browser and the report of the tests that look at one.
func pageToSee(t *testing.T) (browser, file string) {
	t.Helper()
	file = os.Getenv(screenshotsEnv)
	if file == "" {
		t.Skipf("%s is not set (make report-screenshots)", screenshotsEnv)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil && browser == "" {
			browser = path
		}
	}
	if browser == "" {
		t.Fatal("there is no Chromium on PATH, and the test was asked for")
	}
	if file == "tiny" {
		file = filepath.Join(t.TempDir(), "report.html")
		if err := atomicfile.Write(file, render(t, full(t))); err != nil {
			t.Fatal(err)
		}
	}
	file, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	return browser, file
}

// TestScreenshots leaves pictures of a page at the width of a desk and of a phone, by
// day and by night, in the artefacts of the test, and holds what a machine can see:
// the page ends inside the picture, nothing reaches into the margin, and the night is dark.
func TestScreenshots(t *testing.T) {
	browser, file := pageToSee(t)
	for _, c := range []struct {
		width, height int
		scheme        string
		dark          bool
	}{{1280, 20000, "light", false}, {1280, 20000, "dark", true}, {390, 32000, "light", false}, {390, 32000, "dark", true}} {
		path := filepath.Join(t.ArtifactDir(), fmt.Sprintf("report-%d-%s.png", c.width, c.scheme))
		shoot(t, browser, file, path, c.width, c.height, c.dark)
		m := crop(t, path)
		if m.Bounds().Dy() >= c.height {
			t.Errorf("%s: the page is cut at line %d, wanted a window that holds its end", path, c.height)
		}
		margin := m.RGBAAt(c.width-1, m.Bounds().Dy()/2)
		if lit := margin.G > 128; lit == c.dark {
			t.Errorf("%s: the background is %v", path, margin)
		}
		for y := range m.Bounds().Dy() {
			if got := m.RGBAAt(c.width-3, y); got != margin {
				t.Errorf("%s: %v in the margin at line %d, want %v", path, got, y, margin)
				break
			}
		}
		t.Logf("%s: %v", path, m.Bounds().Size())
	}
}

// shoot writes a picture of the page in a window of that size.
func shoot(t *testing.T, browser, file, path string, width, height int, dark bool) {
	t.Helper()
	scheme := map[bool]string{true: "0", false: "1"}[dark] // blink's PreferredColorScheme
	browse(t, browser, file, "--hide-scrollbars", "--blink-settings=preferredColorScheme="+scheme, fmt.Sprintf("--window-size=%d,%d", width, height), "--screenshot="+path)
}

// browse opens the page in a browser that does what the flags say.
func browse(t *testing.T, browser, file string, flags ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=" + t.TempDir()}, flags...)
	args = append(args, (&url.URL{Scheme: "file", Path: file}).String())
	if out, err := exec.CommandContext(ctx, browser, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", browser, err, out)
	}
}

// crop cuts the empty lines below the page off the picture.
func crop(t *testing.T, path string) *image.RGBA {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := png.Decode(f)
	_ = f.Close() // it was only read
	if err != nil {
		t.Fatal(err)
	}
	m := image.NewRGBA(decoded.Bounds())
	draw.Draw(m, m.Bounds(), decoded, image.Point{}, draw.Src)
	empty := func(y int) bool {
		for x := range m.Bounds().Dx() {
			if m.RGBAAt(x, y) != m.RGBAAt(0, y) {
				return false
			}
		}
		return true
	}
	end := m.Bounds().Dy()
	for end > 1 && empty(end-1) {
		end--
	}
	m = m.SubImage(image.Rect(0, 0, m.Bounds().Dx(), end)).(*image.RGBA)
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(out, m); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return m
}

// nameCell is a cell whose text must stay in one piece.
var nameCell = regexp.MustCompile(`<td class="name">([^<]*)</td>`)

// TestPrinted prints a page and demands that the words of statuses and names are whole.
func TestPrinted(t *testing.T) {
	browser, file := pageToSee(t)
	reader, err := exec.LookPath("pdftotext")
	if err != nil {
		t.Fatal("there is no pdftotext on PATH, and the test was asked for")
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pdf := filepath.Join(t.ArtifactDir(), "report.pdf")
	browse(t, browser, file, "--no-pdf-header-footer", "--print-to-pdf="+pdf)
	printed, err := exec.CommandContext(t.Context(), reader, "-layout", pdf, "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]int{}, map[string]int{}
	for _, m := range nameCell.FindAllSubmatch(page, -1) {
		for _, word := range strings.Fields(html.UnescapeString(string(m[1]))) {
			want[word]++
		}
	}
	for _, word := range strings.Fields(string(printed)) {
		got[word]++
	}
	if len(want) == 0 {
		t.Error("the page has no names")
	}
	for word, n := range want {
		if got[word] < n {
			t.Errorf("%q is printed %d times, wanted %d", word, got[word], n)
		}
	}
}
