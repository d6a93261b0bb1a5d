package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far a long step is: a bar with the time left on a
// terminal, else a line every few seconds. It writes to stderr only.
type progress struct {
	w     io.Writer
	title string

	bars *mpb.Progress
	bar  *mpb.Bar

	start, last time.Time
}

// quietFor is the time between two lines where there is no terminal.
const quietFor = 10 * time.Second

func (e *env) progress(title string) *progress {
	p := &progress{w: e.err, title: title, start: time.Now(), last: time.Now()}
	f, ok := e.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" || os.Getenv("NO_COLOR") != "" {
		return p
	}
	p.bars = mpb.New(mpb.WithOutput(f), mpb.WithWidth(40), mpb.WithAutoRefresh())
	return p
}

// set says that done of total are done.
func (p *progress) set(done, total int64) {
	if p.bars != nil {
		if p.bar == nil {
			p.bar = p.bars.AddBar(total,
				mpb.PrependDecorators(decor.Name(p.title, decor.WCSyncSpaceR)),
				mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace), decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace)))
		}
		p.bar.SetCurrent(done)
		return
	}
	if now := time.Now(); now.Sub(p.last) >= quietFor && done < total && done > 0 {
		p.last = now
		spent := now.Sub(p.start)
		left := time.Duration(float64(spent) * float64(total-done) / float64(done))
		fmt.Fprintf(p.w, "%s: %d %%, %s left\n", p.title, 100*done/total, left.Round(time.Second))
	}
}

// end takes the bar off the screen.
func (p *progress) end() {
	if p.bars == nil {
		return
	}
	if p.bar != nil {
		p.bar.Abort(true)
	}
	p.bars.Wait()
}
