package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The committed assembly is what the generator writes.
func TestFresh(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 {
		t.Errorf("%d files, want assembly and declarations", len(files))
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator writes: run go generate in packer", name)
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
	if !beyond.MatchString("VPADDD Y16, Y1, Y1") || beyond.MatchString("VPADDD Y15, Y1, Y1") {
		t.Fatal("the expression does not find what it is for")
	}
	for name, text := range files {
		if found := beyond.Find(text); found != nil {
			t.Errorf("%s uses %s", name, found)
		}
	}
}
