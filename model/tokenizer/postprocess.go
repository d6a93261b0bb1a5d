package tokenizer

import (
	"encoding/json"
	"fmt"
)

// template holds the ids that go round a text: BOS, EOS and the like.
type template struct {
	before, after []int32
	set           bool // the file has a TemplateProcessing
}

// parsePostProcessor reads the "post_processor". ByteLevel only moves offsets.
func parsePostProcessor(raw json.RawMessage, where string, depth int) (template, error) {
	if absent(raw) {
		return template{}, nil
	}
	kind, err := kindOf(raw, where)
	if err != nil {
		return template{}, err
	}
	switch kind {
	case "ByteLevel":
		return template{}, nil
	case "TemplateProcessing":
		return parseTemplate(raw, where)
	case "Sequence":
		var j struct {
			Type       string
			Processors []json.RawMessage
		}
		if err := strict(raw, &j, where); err != nil {
			return template{}, err
		}
		list, err := sequence(j.Processors, where+".processors", depth, func(r json.RawMessage, w string, d int) ([]template, error) {
			t, err := parsePostProcessor(r, w, d)
			return []template{t}, err
		}, concat)
		if err != nil {
			return template{}, err
		}
		var t template
		for _, x := range list {
			if x.set && t.set {
				return template{}, unsupported(where, "two TemplateProcessing", "one")
			}
			if x.set {
				t = x
			}
		}
		return t, nil
	}
	return template{}, unsupported(where, "post-processor "+quote(kind), "TemplateProcessing, ByteLevel or Sequence")
}

func concat(lists [][]template) []template {
	var all []template
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// parseTemplate reads the template for one text; the one for pairs is not used.
func parseTemplate(raw json.RawMessage, where string) (template, error) {
	type item struct {
		Sequence *struct {
			ID     string `json:"id"`
			TypeID int    `json:"type_id"`
		}
		SpecialToken *struct {
			ID     string `json:"id"`
			TypeID int    `json:"type_id"`
		}
	}
	var j struct {
		Type          string
		Single        []item
		Pair          json.RawMessage
		SpecialTokens map[string]struct {
			ID     string   `json:"id"`
			IDs    []int32  `json:"ids"`
			Tokens []string `json:"tokens"`
		} `json:"special_tokens"`
	}
	if err := strict(raw, &j, where); err != nil {
		return template{}, err
	}
	t := template{set: true}
	seen := false
	for _, it := range j.Single {
		switch {
		case it.Sequence != nil && it.SpecialToken == nil:
			if it.Sequence.ID != "A" || seen {
				return template{}, invalid(where+".single", "sequence "+quote(it.Sequence.ID), "A, once")
			}
			seen = true
		case it.SpecialToken != nil && it.Sequence == nil:
			s, ok := j.SpecialTokens[it.SpecialToken.ID]
			if !ok {
				return template{}, invalid(where+".single", quote(it.SpecialToken.ID), "a key of special_tokens")
			}
			if seen {
				t.after = append(t.after, s.IDs...)
			} else {
				t.before = append(t.before, s.IDs...)
			}
		default:
			return template{}, unsupported(where+".single", "an item of another kind", "Sequence or SpecialToken")
		}
	}
	if !seen {
		return template{}, invalid(where+".single", "no sequence A", "the text's place")
	}
	return t, nil
}

// check refuses ids that the vocabulary does not have.
func (t template) check(size int) error {
	for _, list := range [][]int32{t.before, t.after} {
		for _, id := range list {
			if id < 0 || int(id) >= size {
				return invalid("post_processor", fmt.Sprintf("id %d", id), fmt.Sprintf("0 to %d", size-1))
			}
		}
	}
	return nil
}

// configJSON is the part of tokenizer_config.json that concerns BOS and EOS.
type configJSON struct {
	AddBOS *bool           `json:"add_bos_token"`
	AddEOS *bool           `json:"add_eos_token"`
	BOS    json.RawMessage `json:"bos_token"`
	EOS    json.RawMessage `json:"eos_token"`
}

// configTemplate applies add_bos_token and add_eos_token of
// tokenizer_config.json, as transformers does where tokenizer.json has no
// post-processor; a post-processor in tokenizer.json decides alone.
func configTemplate(config []byte, id func(string) (int32, bool)) (template, error) {
	const where = "tokenizer_config.json"
	if absent(config) {
		return template{}, nil
	}
	var j configJSON
	if err := json.Unmarshal(config, &j); err != nil {
		return template{}, jsonFault(where, err)
	}
	var t template
	for _, x := range []struct {
		key   string
		on    *bool
		token json.RawMessage
		ids   *[]int32
	}{{"bos_token", j.AddBOS, j.BOS, &t.before}, {"eos_token", j.AddEOS, j.EOS, &t.after}} {
		if x.on == nil || !*x.on || absent(x.token) {
			continue
		}
		var text string
		if json.Unmarshal(x.token, &text) != nil {
			var o struct{ Content string }
			if err := json.Unmarshal(x.token, &o); err != nil {
				return template{}, jsonFault(where+": "+x.key, err)
			}
			text = o.Content
		}
		n, ok := id(text)
		if !ok {
			return template{}, invalid(where+": "+x.key, quote(text), "a token of tokenizer.json")
		}
		*x.ids = []int32{n}
	}
	return t, nil
}
