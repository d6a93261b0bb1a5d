package packer

import (
	"strings"
	"testing"
)

func TestCalibrationNamesItsTokens(t *testing.T) {
	t.Parallel()
	a := NewCalibration([][]int32{{1, 2}, {3}})
	if a.Windows != 2 || a.Tokens != 3 || *a != *NewCalibration([][]int32{{1, 2}, {3}}) {
		t.Errorf("%+v", a)
	}
	if b := NewCalibration([][]int32{{1, 2}, {4}}); a.SHA256 == b.SHA256 {
		t.Error("other tokens have the same hash")
	}
}

func TestManifestRefusesABadCalibration(t *testing.T) {
	t.Parallel()
	m := Manifest{Version: manifestVersion, Scheme: W4A8, Grid: GridLUT, Calibration: NewCalibration(nil)}
	data, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseManifest(data); err != nil || *got.Calibration != *m.Calibration {
		t.Errorf("%+v, %v", got, err)
	}
	bad := strings.Replace(string(data), m.Calibration.SHA256, "00", 1)
	if _, err := ParseManifest([]byte(bad)); err == nil {
		t.Error("a hash of two digits was accepted")
	}
}
