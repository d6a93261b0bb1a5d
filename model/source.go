package model

import (
	"fmt"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/tensor"
)

// RowReader is an optional part of a [Source]: it reads rows [from, to) of a
// matrix, so that embeddings and heads need never be in memory as a whole.
type RowReader interface {
	Rows(tensorName string, from, to int) (tensor.Matrix, error)
}

// FromCheckpoint returns the unquantized weights of a checkpoint. Every tensor
// is checked against the checkpoint's own config.json when it is read: a
// missing one, another shape, a bias too many or too few are errors.
func FromCheckpoint(r *checkpoint.Reader, c Compute) Source {
	s := &checkpointSource{reader: r, compute: c, expected: map[string]Expected{}}
	cfg, err := ParseConfig(r.ConfigJSON())
	if err != nil {
		s.err = err // Source's methods can fail, this function cannot
		return s
	}
	for _, e := range Tensors(cfg) {
		s.expected[e.Name] = e
	}
	return s
}

type checkpointSource struct {
	reader   *checkpoint.Reader
	compute  Compute
	expected map[string]Expected
	err      error
}

func (s *checkpointSource) Linear(name string) (Linear, error) {
	weight, err := s.Matrix(name + ".weight")
	if err != nil {
		return nil, err
	}
	var bias []float32
	biasName := name + ".bias"
	if _, wanted := s.expected[biasName]; wanted {
		b, err := s.Matrix(biasName)
		if err != nil {
			return nil, err
		}
		bias = b.Data
	} else if s.reader.Has(biasName) {
		return nil, &fault.Error{
			Err: checkpoint.ErrInvalid, Where: biasName + " in " + s.reader.File(biasName),
			Found: "a bias", Wanted: "none, as config.json says",
			Hint: "check attention_bias and mlp_bias in config.json",
		}
	}
	return s.compute.Linear(weight, bias), nil
}

func (s *checkpointSource) Matrix(name string) (tensor.Matrix, error) {
	if err := s.check(name); err != nil {
		return tensor.Matrix{}, err
	}
	return s.reader.Matrix(name)
}

func (s *checkpointSource) Rows(name string, from, to int) (tensor.Matrix, error) {
	if err := s.check(name); err != nil {
		return tensor.Matrix{}, err
	}
	return s.reader.Rows(name, from, to)
}

func (s *checkpointSource) check(name string) error {
	if s.err != nil {
		return s.err
	}
	e, ok := s.expected[name]
	if !ok {
		return &fault.Error{
			Err: checkpoint.ErrInvalid, Where: name,
			Found: "a request for this tensor", Wanted: fmt.Sprintf("one of the %d that config.json calls for", len(s.expected)),
		}
	}
	return e.check(s.reader)
}

// eachRows calls visit on successive row ranges of a matrix, at most step rows
// each. A source that is no [RowReader] is asked for the whole matrix once.
func eachRows(src Source, name string, rows, step int, visit func(from int, m tensor.Matrix) error) error {
	reader, ok := src.(RowReader)
	var whole tensor.Matrix
	if !ok {
		var err error
		if whole, err = src.Matrix(name); err != nil {
			return err
		}
		if whole.Rows != rows {
			return shapeFault(name, []int{whole.Rows, whole.Cols}, []int{rows, whole.Cols})
		}
	}
	for from := 0; from < rows; from += step {
		to := min(from+step, rows)
		var m tensor.Matrix
		if ok {
			var err error
			if m, err = reader.Rows(name, from, to); err != nil {
				return err
			}
		} else {
			m = whole.RowRange(from, to)
		}
		if err := visit(from, m); err != nil {
			return err
		}
	}
	return nil
}
