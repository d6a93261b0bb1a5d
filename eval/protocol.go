package eval

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"

	"quantize/internal/fault"
	"quantize/recipe"
)

// Protocol is what two evaluations of a text must share to be compared.
type Protocol struct {
	Text            string
	TokensSum       string // sha256 of the evaluated tokens, in hexadecimal
	Window, Windows int
}

// Protocols are those that models would be evaluated by; it computes nothing
// else. Errors are those of [Compare].
func Protocols(models []Candidate, texts []Text, o Options) ([]Protocol, error) {
	var all []Protocol
	for _, t := range texts {
		windows, size, err := cut(models, t, o)
		if err != nil {
			return nil, err
		}
		h := sha256.New()
		for _, w := range windows {
			_ = binary.Write(h, binary.LittleEndian, w) // a hash does not fail
		}
		all = append(all, Protocol{Text: t.Name, TokensSum: hex.EncodeToString(h.Sum(nil)), Window: size, Windows: len(windows)})
	}
	return all, nil
}

func (p Protocol) String() string {
	return fmt.Sprintf("%d windows of %d tokens with sha256 %.12s", p.Windows, p.Window, p.TokensSum)
}

// NewBaseline records what was measured as the state that later ones may be
// compared with; protocols belong to its reports.
func NewBaseline(m Measured, baseSum string, protocols []Protocol) *recipe.Baseline {
	b := &recipe.Baseline{Model: m.Model, BaseSum: baseSum, Bytes: m.Bytes}
	for i, r := range m.Reports {
		p := protocols[i]
		b.Arithmetic, b.Base = r.Arithmetic, r.Base.Model
		b.Texts = append(b.Texts, recipe.BaselineText{
			Text: p.Text, TokensSum: p.TokensSum, Window: p.Window, Windows: p.Windows,
			Perplexity: new(r.Perplexity), PerplexityRatio: new(math.Exp(r.LnPPLRatio)),
			KLMean: new(r.KLMean), KLMedian: new(r.KLMedian), KLP999: new(r.KLP999), Top1Agreement: new(r.Top1Agreement),
		})
	}
	return b
}

// anew ends the errors of a baseline that cannot be compared with.
const anew = "numbers of two protocols do not compare; --write-baseline makes a new one"

// CheckReading demands that candidates are read as the checkpoint of the baseline
// was: two arithmetics give one checkpoint two perplexities. The error is
// [ErrInput] and names both.
func CheckReading(where string, b *recipe.Baseline, candidates []Candidate) error {
	for _, c := range candidates {
		if c.Arithmetic != b.Arithmetic {
			return &fault.Error{
				Err: ErrInput, Where: where, Found: fmt.Sprintf("%s measured by the reading %s", b.Model, b.Arithmetic),
				Wanted: fmt.Sprintf("the reading %s, that of %s", c.Arithmetic, c.Name), Hint: anew,
			}
		}
	}
	return nil
}

// CheckBaseline demands that the baseline in the file where was measured on the
// same base and, of each text that both have, on the same windows. The error is
// [ErrInput] and names both sides.
func CheckBaseline(where string, b *recipe.Baseline, base, baseSum string, protocols []Protocol) error {
	if b.BaseSum != baseSum {
		return &fault.Error{
			Err: ErrInput, Where: where, Found: fmt.Sprintf("base %s with sha256 %.12s", b.Base, b.BaseSum),
			Wanted: fmt.Sprintf("base %s with sha256 %.12s", base, baseSum), Hint: anew,
		}
	}
	for _, p := range protocols {
		for _, t := range b.Texts {
			was := Protocol{Text: t.Text, TokensSum: t.TokensSum, Window: t.Window, Windows: t.Windows}
			if t.Text == p.Text && was != p {
				return &fault.Error{Err: ErrInput, Where: where + ": text " + t.Text, Found: was.String(), Wanted: p.String(), Hint: anew}
			}
		}
	}
	return nil
}
