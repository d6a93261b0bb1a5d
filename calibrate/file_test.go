package calibrate

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/model"
)

// sample returns statistics with every part.
func sample(seed uint64, channels int) *Stats {
	r := rand.New(rand.NewPCG(seed, 0))
	s := &Stats{Windows: 2, Tokens: 58, Meta: map[string]string{"model": "a<b>&\u2028", "seed": "1"}}
	for _, at := range []model.Site{{Layer: 0, Point: model.AttnIn}, {Layer: 0, Point: model.KPost}, {Layer: 3, Point: model.DownIn}} {
		pairs := 0
		if at.Point == model.KPost {
			pairs = channels / 2
		}
		site := newSite(at, channels, pairs)
		site.Tokens = 58
		for k := range channels {
			site.AbsMax[k], site.Sum[k], site.SumAbs[k], site.SumSq[k] = r.Float32(), r.NormFloat64(), r.Float64(), r.Float64()
		}
		for p := range site.PairMax {
			site.PairMax[p] = r.Float32()
		}
		if at.Point != model.KPost {
			site.Hessian = &Hessian{K: channels, Data: make([]float64, channels*channels)}
			for i := range site.Hessian.Data {
				site.Hessian.Data[i] = r.NormFloat64()
			}
		}
		s.Sites = append(s.Sites, *site)
	}
	return s
}

func saved(t testing.TB, s *Stats) (path string, data []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "stats.safetensors")
	if err := s.Save(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, data
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*Stats{
		"every part": sample(1, 5), "larger than a buffer": sample(2, 150), "one channel": sample(3, 1), "no sites": {},
	} {
		path, data := saved(t, s)
		got, err := Load(path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if _, again := saved(t, got); !bytes.Equal(data, again) {
			t.Errorf("%s: saved again it has other bytes", name)
		}
	}
}

// No byte of a file can be changed, removed or added unnoticed.
func TestLoadNoticesEveryByte(t *testing.T) {
	t.Parallel()
	_, data := saved(t, sample(1, 2))
	check := func(what string, at int, data []byte) {
		t.Helper()
		if _, err := read(bytes.NewReader(data), int64(len(data))); !errors.Is(err, ErrInvalid) {
			t.Fatalf("%s %d of %d: error %v, want ErrInvalid", what, at, len(data), err)
		}
	}
	for i := range data {
		for _, flip := range []byte{1, 0x20, 0x80} {
			changed := bytes.Clone(data)
			changed[i] ^= flip
			check("changed byte", i, changed)
		}
		check("cut at byte", i, data[:i])
	}
	check("added byte", len(data), append(bytes.Clone(data), 0))
	for what, spoil := range map[string]func(*SiteStats){
		"pairs of no query or key": func(s *SiteStats) { s.PairMax = []float32{1} },
		"no number as a maximum":   func(s *SiteStats) { s.AbsMax[1] = float32(math.NaN()) },
	} {
		s := sample(1, 2)
		spoil(&s.Sites[0])
		_, data := saved(t, s)
		check(what, 0, data)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, ErrInvalid) {
		t.Errorf("an absent file: %v", err)
	}
}

func TestSaveReportsTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "absent", "stats")
	if err := sample(1, 2).Save(path); err == nil {
		t.Error("saved into a directory that is not there")
	}
}

func FuzzLoad(f *testing.F) {
	_, small := saved(f, sample(1, 2))
	_, none := saved(f, &Stats{})
	f.Add(small)
	f.Add(none)
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v is no ErrInvalid", err)
			}
			return
		}
		if _, again := saved(t, s); !bytes.Equal(again, data) {
			t.Fatal("a file that loads is not the one its statistics save")
		}
	})
}
