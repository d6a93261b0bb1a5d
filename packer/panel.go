package packer

// lanes is the number of columns of a panel, which lie side by side for every k.
const lanes = 8

// addPanel adds to c[r·ldc + j], for r < rows and j < lanes, the sum over p < k of
// a[r·rs + p·ks]·b[p·lanes + j]. Every element is one running sum in the order of
// p, and no product is fused with its sum: the assembly gives the same bits.
func addPanel(rows int, c []float64, ldc int, a []float64, rs, ks int, b []float64, k int) {
	if rows == panelRows && k > 0 && hasVectors() {
		_, _, _ = c[(rows-1)*ldc+lanes-1], a[(rows-1)*rs+(k-1)*ks], b[k*lanes-1]
		addPanelVectors(&c[0], ldc, &a[0], rs, ks, &b[0], k)
		return
	}
	for r := range rows {
		out := (*[lanes]float64)(c[r*ldc:])
		s0, s1, s2, s3, s4, s5, s6, s7 := out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7]
		for p := range k {
			v, x := a[r*rs+p*ks], (*[lanes]float64)(b[p*lanes:])
			s0, s1, s2, s3 = s0+float64(v*x[0]), s1+float64(v*x[1]), s2+float64(v*x[2]), s3+float64(v*x[3])
			s4, s5, s6, s7 = s4+float64(v*x[4]), s5+float64(v*x[5]), s6+float64(v*x[6]), s7+float64(v*x[7])
		}
		*out = [lanes]float64{s0, s1, s2, s3, s4, s5, s6, s7}
	}
}

// panelRows is the number of rows for which addPanel has assembly.
const panelRows = 4

//go:generate go run -C gen . ..
