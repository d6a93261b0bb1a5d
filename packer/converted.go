package packer

// Converted gives the manifest of a checkpoint that holds the same weights in
// another format: files and tensors are the hashes of what was written, notes
// what the user was told. The receiver is the manifest of the source; nil when it
// came from another program and has none.
func (m *Manifest) Converted(s Scheme, files, tensors map[string]string, notes []string, tool string) ([]byte, error) {
	out := Manifest{Version: manifestVersion, Layers: []Layer{}, Sources: map[string]string{}, Omitted: []string{}}
	if m != nil {
		out = *m
	}
	out.Tool, out.Scheme, out.Files, out.Tensors = tool, s, files, tensors
	out.Warnings = append(append([]string{}, out.Warnings...), notes...)
	return out.encode()
}
