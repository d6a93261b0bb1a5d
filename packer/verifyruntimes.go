package packer

import (
	"fmt"
	"strings"
)

// runtimes gives one line: where the checkpoint loads on Hopper, the GPU that the
// W4A8 kernel is for. It is no fault that it does not load somewhere; plan says why.
func (v *verifier) runtimes() {
	if v.quant.Private() != "" {
		v.item(ItemRuntimes, "this program only: "+v.quant.Private(), nil)
		return
	}
	scheme, group, linears := Scheme(0), 0, []LinearShape{}
	for _, module := range v.order {
		l := v.quantity[module]
		if scheme != 0 && (l.scheme != scheme || l.group != group) {
			v.item(ItemRuntimes, "several schemes: vLLM and transformers tell them apart by their expressions", nil)
			return
		}
		scheme, group = l.scheme, l.group
		linears = append(linears, l.LinearShape)
	}
	if scheme == 0 {
		return // told by ignore
	}
	var parts []string
	rows := RuntimeTable(v.config, scheme, group, linears)
	for i := 0; i < len(rows); {
		var degrees []string
		j := i
		for ; j < len(rows) && rows[j].Runtime == rows[i].Runtime && rows[j].GPU == rows[i].GPU; j++ {
			if rows[j].Loads {
				degrees = append(degrees, fmt.Sprint(rows[j].TensorParallel))
			}
		}
		if strings.Contains(rows[i].GPU, "(SM90)") || j-i == 1 {
			text := "no"
			if len(degrees) > 0 {
				text = "TP " + strings.Join(degrees, ", ")
			}
			parts = append(parts, rows[i].Runtime+": "+text)
		}
		i = j
	}
	v.item(ItemRuntimes, "on SM90: "+strings.Join(parts, "; "), nil)
}
