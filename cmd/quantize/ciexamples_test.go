package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestCIExamples runs the shell of the examples in docs/ci as their runners do:
// a flag renamed here would break them in silence.
func TestCIExamples(t *testing.T) {
	t.Parallel()
	// A random model meets no budget of a trained one.
	good := regexp.MustCompile(`max: [0-9._]+`).ReplaceAllString(readDoc(t, "gate.yaml"), "max: 1e+9")
	bad := strings.Replace(good, "bytes, max: 1e+9", "bytes, max: 1", 1)
	// The job finds the baseline that was committed beside the budgets.
	relative := good + "- {metric: kl_mean, max_increase: 1%}\n"
	accept := "exec quantize run model -o accepted\nexec quantize gate accepted --base model --budget accept.yaml --text wiki.txt --write-baseline baseline.json\n"
	passed := "grep 'failures=\"0\"' gate.xml\ngrep 'Accuracy gate: passed' gate.md\n"
	failed := "grep 'failures=\"1\"' gate.xml\ngrep 'FAIL . bytes' gate.md\n"
	// Earlier steps wrote to the summary too.
	summary := "grep '^earlier$' summary.md\n"
	for _, ex := range []struct{ file, key, passed, failed, broken string }{
		{
			"github-actions.yml", "run: |",
			passed + summary + "grep 'Accuracy gate: passed' summary.md\n",
			failed + summary + "grep 'FAIL . bytes' summary.md\n",
			summary + "! grep 'Accuracy gate' summary.md\n",
		},
		{"gitlab-ci.yml", "- |", passed + "grep 'junit: gate.xml' example.yml\n", failed, ""},
	} {
		example := readDoc(t, ex.file)
		for _, c := range []struct{ name, before, exit, budget, after string }{
			{"passed", "", "0", good, ex.passed},
			{"failed", "", "3", bad, ex.failed},
			{"broken", "", "10", "budgets: []\n", "! exists gate.md\n" + ex.broken},
			{"baseline", accept, "0", relative, ex.passed + "grep '[+]1%' gate.md\n"},
			{"no baseline", "", "1", relative, "! exists gate.md\n" + ex.broken},
		} {
			script := filepath.Join(t.TempDir(), strings.TrimSuffix(ex.file, ".yml")+"-"+c.name+".txtar")
			write(t, script, "tinymodel model\n"+c.before+"exits "+c.exit+" sh -e gate.sh\n"+c.after)
			testscript.Run(t, testscript.Params{
				Files:               []string{script},
				RequireExplicitExec: true,
				Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "tinymodel": tinyModel},
				Setup: func(e *testscript.Env) error {
					text, err := demoFiles.ReadFile("demo/evaluation.txt")
					if err != nil {
						return err
					}
					for name, data := range map[string]string{
						"example.yml": example,
						"gate.sh":     blockScalar(t, example, ex.key),
						"gate.yaml":   c.budget,
						"accept.yaml": good,
						"wiki.txt":    string(text[:6000]), // the interval needs 10 windows
						"summary.md":  "earlier\n",
					} {
						write(t, filepath.Join(e.WorkDir, name), data)
					}
					e.Setenv("GITHUB_STEP_SUMMARY", filepath.Join(e.WorkDir, "summary.md"))
					return ownCache(e)
				},
			})
		}
	}
}

// blockScalar is the text below the only line that is key, without its indentation.
func blockScalar(t *testing.T, yaml, key string) string {
	t.Helper()
	var block strings.Builder
	outer, inner, found := 0, 0, 0
	open := false
	for line := range strings.Lines(yaml) {
		trimmed := strings.TrimLeft(line, " ")
		indent := len(line) - len(trimmed)
		switch {
		case strings.TrimSpace(line) == key:
			found++
			open, outer, inner = true, indent, 0
		case open && trimmed == "\n":
			block.WriteString("\n")
		case open && indent > outer:
			if inner == 0 {
				inner = indent
			}
			block.WriteString(line[inner:])
		default:
			open = false
		}
	}
	if found != 1 || block.Len() == 0 {
		t.Fatalf("found %d lines %q with %d bytes below, wanted one block", found, key, block.Len())
	}
	return block.String()
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "ci", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}
