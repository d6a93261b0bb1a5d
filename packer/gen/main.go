// Gen writes the assembly of package packer with avo. It is a module of its
// own, so that the program depends neither on avo nor on what avo depends on.
//
//	cd packer && go generate
package main

import (
	"log"
	"os"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: gen DIR-OF-PACKAGE-PACKER")
	}
	files, err := generate()
	if err != nil {
		log.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), data, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
