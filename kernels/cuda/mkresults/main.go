package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"

	"quantize/kernels/cuda"
	"quantize/packer"
)

// timing has the keys of cuda.Timing that the results keep.
type timing struct {
	Kernel     string      `json:"kernel"`
	Arithmetic string      `json:"arithmetic"`
	M          int         `json:"m"`
	N          int         `json:"n"`
	K          int         `json:"k"`
	US         float64     `json:"us"`
	Floor      float64     `json:"floor"`
	Config     cuda.Config `json:"config"`
}

// competitors is what competitors.py writes.
type competitors struct {
	Device string               `json:"device"`
	Torch  string               `json:"torch"`
	Rows   []map[string]float64 `json:"rows"`
}

// row is a product in the results; times are microseconds.
type row struct {
	M         int                `json:"m"`
	N         int                `json:"n"`
	K         int                `json:"k"`
	Floor     float64            `json:"floor"` // reading the weight at the measured bandwidth
	Exact     float64            `json:"exact"`
	LUT       float64            `json:"lut"`
	Baselines map[string]float64 `json:"baselines"`
}

type results struct {
	Date    string `json:"date"`
	Commit  string `json:"commit"`
	Command string `json:"command"`
	Device  string `json:"device"`
	Torch   string `json:"torch"`
	Rows    []row  `json:"rows"`
}

func main() {
	date := flag.String("date", "", "day of the run")
	commit := flag.String("commit", "", "commit of the run")
	file := flag.String("competitors", "", "what competitors.py wrote")
	timings := flag.String("attention", "", "what device.sh attspeed wrote, instead of products")
	flag.Parse()
	var out any
	var err error
	if *timings != "" {
		out, err = attention(*date, *commit, *timings, *file)
	} else {
		out, err = products(*date, *commit, *file, flag.Args())
	}
	if err == nil {
		err = write(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mkresults:", err)
		os.Exit(1)
	}
}

// products joins the timings of the INT4 products.
func products(date, commit, file string, tunes []string) (results, error) {
	var others competitors
	if err := read(file, &others); err != nil {
		return results{}, err
	}
	var timings []timing
	for _, f := range tunes {
		var some []timing
		if err := read(f, &some); err != nil {
			return results{}, err
		}
		timings = append(timings, some...)
	}
	out := results{Date: date, Commit: commit, Command: "kernels/cuda/device.sh bench", Device: others.Device, Torch: others.Torch}
	for _, o := range others.Rows {
		r := row{M: int(o["m"]), N: int(o["n"]), K: int(o["k"]), Baselines: map[string]float64{}}
		for name, us := range o {
			if !slices.Contains([]string{"m", "n", "k"}, name) {
				r.Baselines[name] = us
			}
		}
		exact, errExact := chosen(timings, r, "exact", packer.Exact)
		lut, errLUT := chosen(timings, r, "lut", packer.LUT)
		if err := errors.Join(errExact, errLUT); err != nil {
			return results{}, err
		}
		r.Exact, r.LUT, r.Floor = exact.US, lut.US, exact.Floor
		out.Rows = append(out.Rows, r)
	}
	return out, nil
}

func write(v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(text, '\n'))
	return err
}

// chosen is the timing of the kernel that the dispatch table chooses.
func chosen(timings []timing, r row, name string, a packer.Arithmetic) (timing, error) {
	c := cuda.Dispatch(r.M, r.N, r.K, a)
	for _, t := range timings {
		if t.Arithmetic == name && t.M == r.M && t.N == r.N && t.K == r.K && t.Config == c {
			return t, nil
		}
	}
	return timing{}, fmt.Errorf("no timing of %v, %s, at M %d, N %d, K %d", c, name, r.M, r.N, r.K)
}

func read(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
