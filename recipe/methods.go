package recipe

// Rotation says which orthogonal matrices turn the model before anything else
// (methods.md 3). The zero value turns nothing.
type Rotation struct {
	Residual Turn   `yaml:"residual,omitempty" json:"residual,omitempty"` // R1, residual stream: norms are folded and the embedding is untied
	Values   Turn   `yaml:"values,omitempty" json:"values,omitempty"`     // R2, each value head into o: nothing is left to do at run time
	Down     Turn   `yaml:"down,omitempty" json:"down,omitempty"`         // R4, input of down, online: only our own runtime does it
	Seed     uint64 `yaml:"seed,omitempty" json:"seed,omitempty"`         // of the random signs
}

// IsZero reports that nothing is turned.
func (r Rotation) IsZero() bool { return r == Rotation{} }

// Rope moves outliers of keys into queries along what rotary embedding leaves
// alone (methods.md 1.9, 1.10, 4.4). The zero value does nothing.
type Rope struct {
	Method    RopeMethod `yaml:"method,omitempty" json:"method,omitempty"`       // before rotary embedding, folded into q and k
	Alpha     float64    `yaml:"alpha,omitempty" json:"alpha,omitempty"`         // fireq: the level keys are brought to; smooth-attention: the exponent of keys
	Exponent  float64    `yaml:"exponent,omitempty" json:"exponent,omitempty"`   // fireq: scale = (alpha/statistic)^exponent; 1 is as published
	Statistic Statistic  `yaml:"statistic,omitempty" json:"statistic,omitempty"` // fireq: the size of a pair of channels
	TopK      int        `yaml:"top_k,omitempty" json:"top_k,omitempty"`         // channels of a head that are scaled after rotary embedding, online
	Beta      float64    `yaml:"beta,omitempty" json:"beta,omitempty"`           // the level those are brought to
}

// IsZero reports that nothing is scaled.
func (r Rope) IsZero() bool { return r == Rope{} }

// Smoothing moves outliers of activations into weights, channel by channel.
// The zero value does nothing.
type Smoothing struct {
	Method Method  `yaml:"method,omitempty" json:"method,omitempty"`
	Pairs  []Pair  `yaml:"pairs,omitempty" json:"pairs,omitempty"`   // which channels; absent: all that the method is published for
	Alpha  float64 `yaml:"alpha,omitempty" json:"alpha,omitempty"`   // smoothquant: the exponent of activations
	VMul   float64 `yaml:"v_mul,omitempty" json:"v_mul,omitempty"`   // fireq: v times this, o divided by it; 0 is 1
	Clip   bool    `yaml:"clip,omitempty" json:"clip,omitempty"`     // awq: search a clip of each group of weights
	Search bool    `yaml:"search,omitempty" json:"search,omitempty"` // fireq: search each pair's exponent on the calibration text
}

// IsZero reports that nothing is smoothed.
func (s Smoothing) IsZero() bool {
	return s.Method == NoSmoothing && len(s.Pairs) == 0 && s.Alpha == 0 && s.VMul == 0 && !s.Clip && !s.Search
}

// KV is the format of the key-value cache.
type KV struct {
	Format    KVFormat `yaml:"format" json:"format"`
	GroupSize int      `yaml:"group_size,omitempty" json:"group_size,omitempty"` // int4: channels of a head that share a scale; 0: all
	Symmetric bool     `yaml:"symmetric,omitempty" json:"symmetric,omitempty"`   // int4: no offset
	Smooth    bool     `yaml:"smooth,omitempty" json:"smooth,omitempty"`         // int4: the means over the calibration text are taken off keys and values
}

// Turn is a kind of rotation.
type Turn uint8

// The rotations. The zero value is none.
const (
	NoTurn         Turn = iota
	Hadamard            // the Hadamard matrix of that order
	RandomHadamard      // the same after random signs: different seeds, different outliers
	PCA                 // eigenvectors of the activations: gathers energy, does not spread it
	PCAHadamard         // those, then a random Hadamard
)

var turns = options[Turn]{"none", "hadamard", "random-hadamard", "pca", "pca-hadamard"}

func (t Turn) String() string { return turns.of(t) }

// MarshalText gives the name in recipes and reports.
func (t Turn) MarshalText() ([]byte, error) { return []byte(turns.of(t)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (t *Turn) UnmarshalText(b []byte) error { return turns.parse(t, "rotation", b) }

// Calibrated reports whether the rotation is made from activations.
func (t Turn) Calibrated() bool { return t == PCA || t == PCAHadamard }

// RopeMethod is what scales keys before rotary embedding.
type RopeMethod uint8

// The methods. The zero value is none.
const (
	NoRope          RopeMethod = iota
	FireQRope                  // pairs of channels to one level (arXiv 2505.20839)
	SmoothAttention            // pairs by a power of their maximum (QServe, arXiv 2405.04532)
)

var ropeMethods = options[RopeMethod]{"none", "fireq", "smooth-attention"}

func (m RopeMethod) String() string { return ropeMethods.of(m) }

// MarshalText gives the name in recipes and reports.
func (m RopeMethod) MarshalText() ([]byte, error) { return []byte(ropeMethods.of(m)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (m *RopeMethod) UnmarshalText(b []byte) error { return ropeMethods.parse(m, "rope.method", b) }

// Statistic is the size of a pair of key channels.
type Statistic uint8

// The statistics. The zero value is the largest radius.
const (
	Max       Statistic = iota // over the calibration text, as published
	RMS                        // root mean square: no single token sets it
	Deviation                  // of the key from its mean: for a cache that takes the means off
)

var statistics = options[Statistic]{"max", "rms", "deviation"}

func (s Statistic) String() string { return statistics.of(s) }

// MarshalText gives the name in recipes and reports.
func (s Statistic) MarshalText() ([]byte, error) { return []byte(statistics.of(s)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (s *Statistic) UnmarshalText(b []byte) error { return statistics.parse(s, "rope.statistic", b) }

// Method is a way of smoothing channels.
type Method uint8

// The methods. The zero value is none.
const (
	NoSmoothing Method = iota
	FireQ              // columns of the consumers to one mean magnitude (arXiv 2505.20839)
	SmoothQuant        // activation maximum against weight maximum (arXiv 2211.10438)
	AWQ                // searched powers of the mean activation (arXiv 2306.00978)
)

var methods = options[Method]{"none", "fireq", "smoothquant", "awq"}

func (m Method) String() string { return methods.of(m) }

// MarshalText gives the name in recipes and reports.
func (m Method) MarshalText() ([]byte, error) { return []byte(methods.of(m)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (m *Method) UnmarshalText(b []byte) error { return methods.parse(m, "smoothing.method", b) }

// Pair is a producer of channels and the linears that read them.
type Pair uint8

// The pairs of a decoder block.
const (
	PairQKV    Pair = iota // norm before attention, into q, k, v
	PairO                  // v into o
	PairGateUp             // norm before the MLP, into gate and up
	PairDown               // up into down
)

var pairs = options[Pair]{"qkv", "o", "gate_up", "down"}

func (p Pair) String() string { return pairs.of(p) }

// MarshalText gives the name in recipes and reports.
func (p Pair) MarshalText() ([]byte, error) { return []byte(pairs.of(p)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (p *Pair) UnmarshalText(b []byte) error { return pairs.parse(p, "smoothing.pairs", b) }

// KVFormat is what a cached key or value becomes.
type KVFormat uint8

// The formats. The zero value is none.
const (
	KVNone KVFormat = iota // the runtime's own
	KVFP8                  // E4M3 with one scale a layer, in the checkpoint
	KVInt4                 // INT4 groups of each token and head, scales made when cached
)

var kvFormats = options[KVFormat]{"none", "fp8", "int4"}

func (f KVFormat) String() string { return kvFormats.of(f) }

// MarshalText gives the name in recipes and reports.
func (f KVFormat) MarshalText() ([]byte, error) { return []byte(kvFormats.of(f)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (f *KVFormat) UnmarshalText(b []byte) error { return kvFormats.parse(f, "kv.format", b) }

// options is the text of an enum all of whose values, 0 included, are legal.
type options[E ~uint8] []string

func (o options[E]) of(e E) string { return names[E]{text: o}.of(e) }

func (o options[E]) parse(dst *E, field string, b []byte) error {
	for i, s := range o {
		if s == string(b) {
			*dst = E(i)
			return nil
		}
	}
	return &badValue{field: field, found: string(b), wanted: o.list()}
}

func (o options[E]) list() string { return names[E]{text: append([]string{""}, o...)}.list() }
