package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
)

// The committed assembly is what the generator writes.
func TestFresh(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 6 {
		t.Errorf("%d files, want assembly and declarations of three instruction sets", len(files))
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator writes: run go generate in kernels/cpu", name)
		}
	}
}

// More than sixteen live vectors would make avo take a register that only
// AVX-512 has, without a word.
func TestOnlyAVX2(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	beyond := regexp.MustCompile(`\b([XY](1[6-9]|[23][0-9])|Z[0-9]+|K[0-7])\b`)
	if beyond.Find(files["kernels_avx512_amd64.s"]) == nil {
		t.Fatal("the expression does not find what it is for")
	}
	if found := beyond.Find(files["kernels_avx2_amd64.s"]); found != nil {
		t.Errorf("the assembly for AVX2 uses %s", found)
	}
}

// The bytes of AMX are those that binutils assembles from its mnemonics.
func TestEncodings(t *testing.T) {
	as, err := exec.LookPath("as")
	if err != nil {
		t.Skip("no assembler")
	}
	dump, err := exec.LookPath("objdump")
	if err != nil {
		t.Skip("no disassembler")
	}
	ctx := build.NewContext()
	ctx.Function("f")
	x := amx{ctx}
	x.configure()
	x.load(4, numSI, 1024)
	x.load(7, numDI, 2048)
	x.multiply(3, 5, 7)
	x.multiply(0, 4, 6)
	x.zero(2)
	x.store(3, 2112)
	x.release()
	const mnemonics = `
	ldtilecfg (%rax)
	{disp32} tileloadd 0x400(%rsi,%rcx,1),%tmm4
	{disp32} tileloadd 0x800(%rdi,%rcx,1),%tmm7
	tdpbf16ps %tmm7,%tmm5,%tmm3
	tdpbf16ps %tmm6,%tmm4,%tmm0
	tilezero %tmm2
	{disp32} tilestored %tmm3,0x840(%rdx,%rbx,1)
	tilerelease
`
	f, err := ctx.Result()
	if err != nil {
		t.Fatal(err)
	}
	var ours []byte
	for _, i := range f.Functions()[0].Instructions() {
		ours = append(ours, byte(i.Operands[0].(operand.U8)))
	}
	object := filepath.Join(t.TempDir(), "amx.o")
	run := exec.Command(as, "--64", "-o", object, "-")
	run.Stdin = strings.NewReader(mnemonics)
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("as: %v: %s", err, out)
	}
	out, err := exec.Command(dump, "-d", "--insn-width=16", object).Output()
	if err != nil {
		t.Fatal(err)
	}
	var theirs []byte
	for _, line := range strings.Split(string(out), "\n") {
		fields := strings.Split(line, "\t")
		if len(fields) < 3 {
			continue
		}
		for _, b := range strings.Fields(fields[1]) {
			v, err := strconv.ParseUint(b, 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			theirs = append(theirs, byte(v))
		}
	}
	if !bytes.Equal(ours, theirs) {
		t.Errorf("bytes\n% x, as makes\n% x", ours, theirs)
	}
}

// Every product of parts down to 2^-16 of the whole is there once, smaller ones
// before larger ones.
func TestTerms(t *testing.T) {
	for na := 1; na <= maxParts; na++ {
		for nb := 1; nb <= maxParts; nb++ {
			seen, size := map[[2]int]bool{}, maxParts
			for _, p := range terms(na, nb) {
				if seen[p] || p[0]+p[1] > size {
					t.Errorf("%d x %d parts: %v twice or after a larger one", na, nb, p)
				}
				seen[p], size = true, p[0]+p[1]
			}
			for i := range na {
				for j := range nb {
					if seen[[2]int{i, j}] != (i+j < maxParts) {
						t.Errorf("%d x %d parts: product (%d, %d) missing or too much", na, nb, i, j)
					}
				}
			}
		}
	}
}
