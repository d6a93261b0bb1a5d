package packer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"quantize/internal/fault"
)

// ManifestPath is where Export leaves its manifest inside the output: in a
// folder that runtimes do not search for tensors.
const ManifestPath = "quantize/manifest.json"

// Manifest records how a checkpoint was made. It has neither times nor host
// names: equal inputs give equal bytes.
type Manifest struct {
	Version int     `json:"manifest_version"`
	Tool    string  `json:"tool"`   // name and version of the program
	Recipe  string  `json:"recipe"` // the recipe's text
	Scheme  Scheme  `json:"scheme"` // what config.json declares
	Group   int     `json:"group_size,omitempty"`
	Grid    Grid    `json:"grid,omitempty"` // the products the INT4 codes were chosen against
	Layers  []Layer `json:"layers"`         // quantized linears, in order of computation
	// Calibration is the text that the recipe was calibrated on; nil: none was read.
	Calibration *Calibration `json:"calibration,omitempty"`
	// Rounding is what the formats of run time cost; nil: nothing is rounded, or no text was read.
	Rounding *Rounding         `json:"rounding,omitempty"`
	Files    map[string]string `json:"files"`    // written file beside the tensors -> sha256
	Sources  map[string]string `json:"sources"`  // source tensor -> sha256 of its bytes
	Tensors  map[string]string `json:"tensors"`  // written tensor -> sha256 of its bytes
	Omitted  []string          `json:"omitted"`  // source tensors that were left out on purpose
	Warnings []string          `json:"warnings"` // what the user was told
}

// Calibration identifies the tokens that statistics were taken from.
type Calibration struct {
	Windows int    `json:"windows"`
	Tokens  int64  `json:"tokens"`
	SHA256  string `json:"sha256"` // of the windows' ids, one after the other, 32 bits little-endian
}

// NewCalibration identifies windows.
func NewCalibration(windows [][]int32) *Calibration {
	c := &Calibration{Windows: len(windows)}
	sum := sha256.New()
	var buf []byte
	for _, w := range windows {
		buf = binary.LittleEndian.AppendUint64(buf[:0], uint64(len(w)))
		for _, id := range w {
			buf = binary.LittleEndian.AppendUint32(buf, uint32(id))
		}
		sum.Write(buf)
		c.Tokens += int64(len(w))
	}
	c.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return c
}

// Layer is one quantized linear and what rounding cost it.
type Layer struct {
	Name         string   `json:"name"`
	N            int      `json:"n"`
	K            int      `json:"k"`
	SNR          *float64 `json:"snr_db"`           // 10 log10(energy/sse); null when nothing was lost
	Cosine       *float64 `json:"cosine,omitempty"` // of the weight and what it became, to four significant digits
	SSE          float64  `json:"sse"`
	Energy       float64  `json:"energy"`
	FloorRows    int      `json:"floor_rows"`
	LiftedGroups int      `json:"lifted_groups"`
	ClippedCodes int      `json:"clipped_codes"`

	// What rounding with error propagation adds; nothing otherwise.
	Method      string  `json:"method,omitempty"`       // "gptq"
	Damp        float64 `json:"damp,omitempty"`         // fraction of the Hessian's mean diagonal that was added to it
	DeadColumns int     `json:"dead_columns,omitempty"` // inputs that were always zero; their codes are 0
	Loss        float64 `json:"loss,omitempty"`         // squared error of the outputs over the calibration tokens
	LossRTN     float64 `json:"loss_rtn,omitempty"`     // the same of the nearest codes under the same scales

	// Of the outputs on the calibration tokens, before and after rounding, to four
	// significant digits. Both follow from the tokens' H = XᵀX: absent where the
	// rounding had none, or where there is no such number. W is the weight that was
	// rounded, as of SNR: where a recipe fits layers to the full-precision model,
	// the one that the drift of the layers before it is made good in.
	OutputSNR    *float64 `json:"output_snr_db,omitempty"` // 10 log10(tr(WHWᵀ)/loss)
	OutputCosine *float64 `json:"output_cosine,omitempty"` // tr(WHW'ᵀ)/√(tr(WHWᵀ)·tr(W'HW'ᵀ))

	// Of the linears of experts, where calibration text was run: the tokens of it
	// that reached the expert, and what was done for lack of them.
	Tokens   *int64 `json:"tokens,omitempty"`
	Fallback string `json:"fallback,omitempty"`
}

// reached records the calibration tokens of an expert.
func (l *Layer) reached(tokens int64) {
	l.Tokens = &tokens
	if tokens == 0 {
		l.Fallback = "no calibration token reached this expert: rounded to nearest, and its pair not scaled by activations"
	}
}

// Starved reports an expert that fewer calibration tokens reached than it has
// input features: the sums that its rounding was fitted on do not have full rank.
func (l *Layer) Starved() bool { return l.Tokens != nil && *l.Tokens > 0 && *l.Tokens < int64(l.K) }

// Layer gives the figures of a rounded weight for the manifest.
func (r *Int4Report) Layer() Layer {
	return Layer{
		SNR: finite(r.SNR()), Cosine: digits4(cosine(r.SSE, r.Energy, r.Rounded)), SSE: r.SSE, Energy: r.Energy,
		FloorRows: r.FloorRows, LiftedGroups: r.LiftedGroups, ClippedCodes: r.ClippedCodes,
	}
}

// Layer gives the figures of a rounded weight for the manifest.
func (r *GPTQReport) Layer() Layer {
	l := r.Int4Report.Layer()
	l.Method, l.Damp, l.DeadColumns, l.Loss, l.LossRTN = "gptq", r.Damp, r.DeadColumns, r.Loss, r.LossRTN
	l.OutputSNR, l.OutputCosine = digits4(r.OutputSNR()), digits4(r.OutputCosine())
	return l
}

// Layer gives the figures of a rounded weight for the manifest.
func (r *FP8Report) Layer() Layer {
	return Layer{SNR: finite(r.SNR()), Cosine: digits4(cosine(r.SSE, r.Energy, r.Rounded)), SSE: r.SSE, Energy: r.Energy}
}

// finite rounds dB to thousandths, nil for the infinite ones JSON cannot hold.
func finite(db float64) *float64 {
	if math.IsInf(db, 0) || math.IsNaN(db) {
		return nil
	}
	db = math.Round(db*1000) / 1000
	return &db
}

const manifestVersion = 1

// largestManifest bounds what is parsed; a thousand layers take half a megabyte.
const largestManifest = 256 << 20

// ParseManifest reads a manifest strictly. Unknown keys, another version and
// hashes that are none are ErrInvalid.
func ParseManifest(data []byte) (*Manifest, error) {
	if len(data) > largestManifest {
		return nil, badConfig(ManifestPath, fmt.Sprintf("%d bytes", len(data)), fmt.Sprintf("at most %d", largestManifest))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var m Manifest
	if err := d.Decode(&m); err != nil {
		return nil, &fault.Error{Err: ErrInvalid, Where: ManifestPath, Found: err.Error(), Wanted: "the manifest of a quantized checkpoint"}
	}
	if m.Version != manifestVersion {
		return nil, badConfig(ManifestPath+" manifest_version", fmt.Sprint(m.Version), fmt.Sprint(manifestVersion))
	}
	for _, hashes := range []map[string]string{m.Files, m.Sources, m.Tensors} {
		for name, h := range hashes {
			if raw, err := hex.DecodeString(h); err != nil || len(raw) != 32 {
				return nil, badConfig(ManifestPath+" "+name, fmt.Sprintf("%q", h), "a sha256 in hexadecimal")
			}
		}
	}
	if c := m.Calibration; c != nil {
		if raw, err := hex.DecodeString(c.SHA256); err != nil || len(raw) != 32 || c.Windows < 0 || c.Tokens < 0 {
			return nil, badConfig(ManifestPath+" calibration", fmt.Sprintf("%+v", *c), "windows, tokens and their sha256")
		}
	}
	return &m, nil
}

// ReadManifest reads the manifest of the checkpoint in dir; fs.ErrNotExist where there is none.
func ReadManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, filepath.FromSlash(ManifestPath))
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return m, nil
}

// encode gives the bytes of the manifest: indented, maps sorted by key.
func (m *Manifest) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return append(data, '\n'), nil
}
