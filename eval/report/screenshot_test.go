package report

import (
	"context"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"quantize/internal/atomicfile"
)

// screenshotsEnv asks for the test: `make report-screenshots` sets it. Its value is a
// report to look at, or "tiny" for one of a random model.
const screenshotsEnv = "QUANTIZE_REPORT_SCREENSHOTS"

// TestScreenshots leaves pictures of a page at the width of a desk and of a phone, by
// day and by night, in the artefacts of the test, and holds what a machine can see:
// nothing reaches into the margin, and the night is dark.
func TestScreenshots(t *testing.T) {
	file := os.Getenv(screenshotsEnv)
	if file == "" {
		t.Skipf("%s is not set (make report-screenshots)", screenshotsEnv)
	}
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil && browser == "" {
			browser = path
		}
	}
	if browser == "" {
		t.Skip("there is no Chromium on PATH")
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
	for _, c := range []struct {
		width, height int
		scheme        string
		dark          bool
	}{{1280, 14000, "light", false}, {1280, 14000, "dark", true}, {390, 16000, "light", false}, {390, 16000, "dark", true}} {
		path := filepath.Join(t.ArtifactDir(), fmt.Sprintf("report-%d-%s.png", c.width, c.scheme))
		shoot(t, browser, file, path, c.width, c.height, c.dark)
		m := crop(t, path)
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
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	scheme := map[bool]string{true: "0", false: "1"}[dark] // blink's PreferredColorScheme
	args := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(),
		"--blink-settings=preferredColorScheme=" + scheme, fmt.Sprintf("--window-size=%d,%d", width, height),
		"--screenshot=" + path, (&url.URL{Scheme: "file", Path: file}).String(),
	}
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
