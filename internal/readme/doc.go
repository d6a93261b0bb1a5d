// Command readme writes the results table of README.md from
// testdata/results/*.json, which `make results` measures. No number in the table
// is typed by hand; a test fails when the table and the files disagree.
package main
