package packer

import "fmt"

// private demands the mark that makes other runtimes refuse a checkpoint exactly
// where its sidecar rotates the input of the down projections at run time: without
// the mark they load it and compute something else, without the rotation our own
// run does. w4a16/config.json has the mark too, which variant sees to.
func (v *verifier) private() {
	s, err := ReadSidecar(v.r.Dir())
	if err != nil {
		return // told by attention
	}
	rotated := s != nil && s.Down != ""
	detail := "computed by every runtime that loads it"
	if rotated {
		detail = "for this program only: other runtimes refuse the configuration"
	}
	var bad []string
	for _, name := range groupNames(v.quant) {
		switch marked := v.quant.ConfigGroups[name].private(); {
		case rotated && !marked:
			bad = append(bad, fmt.Sprintf("config.json config_groups.%s.weights: found no %s beside a rotation at run time (%s), wanted it: other runtimes load the checkpoint and compute something else", name, privateKey, SidecarPath))
		case !rotated && marked:
			bad = append(bad, fmt.Sprintf("config.json config_groups.%s.weights: found %s, wanted none without a rotation at run time in %s", name, privateKey, SidecarPath))
		}
	}
	v.item(ItemPrivate, detail, bad)
}

// privateKey is the JSON key of QuantizationArgs.Private.
const privateKey = "only_for_quantize_runtime"

func (s *QuantizationScheme) private() bool { return s.Weights != nil && s.Weights.Private != "" }

// Private says why only this program may run a checkpoint of this configuration; "": others may too.
func (q *QuantizationConfig) Private() string {
	for _, name := range groupNames(q) {
		if s := q.ConfigGroups[name]; s.private() {
			return s.Weights.Private
		}
	}
	return ""
}
