package ref

import (
	"quantize/kernels"
	"quantize/tensor"
)

// smooth takes the means off keys, queries and values, and keeps what gives them back:
// Shift for the keys', DeltaS for the queries', VMeans for the values' (SageAttention2,
// arXiv 2411.10958, eq. 2; docs/methods.md 2.2, 2.4, 2.6).
func (o *AttentionOperands) smooth() {
	a := o.Attention
	for b := range a.Batch {
		keys, queries := o.K.RowRange(b*a.Keys, (b+1)*a.Keys), o.Q.RowRange(b*a.Queries, (b+1)*a.Queries)
		if a.Format.SmoothK {
			columnMeans(o.KMeans.Row(b), keys)
			o.shift(b, queries) // before the queries lose their own means
			subtract(keys, o.KMeans.Row(b))
		}
		if a.Format.SmoothV {
			values := o.V.RowRange(b*a.Keys, (b+1)*a.Keys)
			columnMeans(o.VMeans.Row(b), values)
			subtract(values, o.VMeans.Row(b))
		}
		if a.Format.SmoothQ {
			for n := range smoothBlocks(a) {
				block := queries.RowRange(n*kernels.SmoothBlock, min((n+1)*kernels.SmoothBlock, a.Queries))
				means := o.QMeans.Row(b*smoothBlocks(a) + n)
				columnMeans(means, block)
				subtract(block, means)
			}
		}
	}
	if a.Format.SmoothQ {
		o.deltaS()
	}
}

// shift fills the rows of sequence b in Shift.
func (o *AttentionOperands) shift(b int, queries tensor.Matrix) {
	a, d := o.Attention, o.Attention.HeadDim
	for i := range a.Queries {
		for h := range a.Heads {
			g := h / (a.Heads / a.KVHeads)
			o.Shift.Row(b*a.Queries + i)[h] = float32(float64(a.Scale) * dot(queries.Row(i)[h*d:(h+1)*d], o.KMeans.Row(b)[g*d:(g+1)*d]))
		}
	}
}

func (o *AttentionOperands) deltaS() {
	a, d := o.Attention, o.Attention.HeadDim
	o.DeltaS = tensor.NewMatrix(o.QMeans.Rows*a.Heads, a.Keys)
	for row := range o.QMeans.Rows {
		b := row / smoothBlocks(a)
		for h := range a.Heads {
			g := h / (a.Heads / a.KVHeads)
			scores := o.DeltaS.Row(row*a.Heads + h)
			for j := range scores {
				scores[j] = float32(dot(o.QMeans.Row(row)[h*d:(h+1)*d], o.K.Row(b*a.Keys + j)[g*d:(g+1)*d]))
			}
		}
	}
}

// columnMeans leaves means as they are where there are no rows.
func columnMeans(means []float32, x tensor.Matrix) {
	if x.Rows == 0 {
		return
	}
	for c := range means {
		sum := 0.0
		for i := range x.Rows {
			sum += float64(x.Row(i)[c])
		}
		means[c] = float32(sum / float64(x.Rows))
	}
}

func subtract(x tensor.Matrix, means []float32) {
	for i := range x.Rows {
		for c, mean := range means {
			x.Row(i)[c] -= mean
		}
	}
}
