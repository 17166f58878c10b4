// Command logcheck reads a log directory with the Go project's own transparency-log packages and proves all of
// it: the signed checkpoint (sumdb/note), every entry, every tile, inclusion and consistency (sumdb/tlog).
//
//	logcheck verify <directory> <origin> <verifier key>   check everything, print size and root
//	logcheck proof <file> <entry file> <verifier key>     check an offline proof text
//	logcheck sign <signer key>                            sign the text on standard input
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height = 8
	width  = 1 << height
)

func main() {
	log.SetFlags(0)
	args := os.Args[1:]
	var err error
	switch {
	case len(args) == 4 && args[0] == "verify":
		err = verify(args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "proof":
		err = proof(args[1], args[2], args[3])
	case len(args) == 2 && args[0] == "sign":
		err = sign(args[1])
	default:
		err = errors.New("usage: logcheck verify|proof|sign ...")
	}
	if err != nil {
		log.Fatal(err)
	}
}

// open verifies a signed checkpoint; signatures of keys it does not know (cosignatures) are ignored.
func open(data []byte, verifierKey string) (string, tlog.Tree, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return "", tlog.Tree{}, err
	}
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return "", tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return "", tlog.Tree{}, errors.New("a checkpoint must have three lines")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return "", tlog.Tree{}, errors.New("the tree size is malformed")
	}
	root, err := tlog.ParseHash(lines[2])
	return lines[0], tlog.Tree{N: size, Hash: root}, err
}

// files reads tiles from a directory laid out as C2SP tlog-tiles: Go's own layout but for the height.
type files struct{ root string }

func (f files) Height() int                     { return height }
func (f files) SaveTiles([]tlog.Tile, [][]byte) {}
func (f files) path(level string, t tlog.Tile) string {
	rest := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/%d/", t.H, t.L))
	return filepath.Join(f.root, "tile", level, rest)
}

func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range tiles {
		data, err := os.ReadFile(f.path(strconv.Itoa(t.L), t))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// entries returns the entries of one bundle, and fails unless it holds exactly as many as the tile says.
func (f files) entries(t tlog.Tile) ([][]byte, error) {
	data, err := os.ReadFile(f.path("entries", t))
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for len(data) > 0 {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("%v: the bundle ends within an entry", t)
		}
		n := int(binary.BigEndian.Uint16(data))
		all = append(all, data[2:2+n])
		data = data[2+n:]
	}
	if len(all) != t.W {
		return nil, fmt.Errorf("%v: %d entries", t, len(all))
	}
	return all, nil
}

// tiles lists every tile of a tree of n entries: the full ones, and the partial one at the edge of each level.
func tiles(n int64) []tlog.Tile {
	var all []tlog.Tile
	for level := 0; n > 0; level, n = level+1, n/width {
		for k := int64(0); k < n/width; k++ {
			all = append(all, tlog.Tile{H: height, L: level, N: k, W: width})
		}
		if n%width > 0 {
			all = append(all, tlog.Tile{H: height, L: level, N: n / width, W: int(n % width)})
		}
	}
	return all
}

func verify(directory, origin, verifierKey string) error {
	data, err := os.ReadFile(filepath.Join(directory, "checkpoint"))
	if err != nil {
		return err
	}
	found, tree, err := open(data, verifierKey)
	if err != nil {
		return err
	}
	if found != origin {
		return fmt.Errorf("origin %q, expected %q", found, origin)
	}
	log := files{directory}
	// TileHashReader checks each tile that it reads against the signed root.
	reader := tlog.TileHashReader(tree, log)

	// The whole tree from the entries alone, as a log of Go's would have stored it.
	var stored []tlog.Hash
	own := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	for first := int64(0); first < tree.N; first += width {
		w := int64(width)
		if tree.N-first < w {
			w = tree.N - first
		}
		bundle, err := log.entries(tlog.Tile{H: height, L: 0, N: first / width, W: int(w)})
		if err != nil {
			return err
		}
		for k, entry := range bundle {
			hashes, err := tlog.StoredHashes(first+int64(k), entry, own)
			if err != nil {
				return err
			}
			stored = append(stored, hashes...)
		}
	}
	root, err := tlog.TreeHash(tree.N, own)
	if err != nil {
		return err
	}
	if tree.N > 0 && root != tree.Hash {
		return errors.New("the entries do not have the signed root")
	}
	// Every tile file of every level, byte for byte.
	for _, t := range tiles(tree.N) {
		want, err := tlog.ReadTileData(t, own)
		if err != nil {
			return err
		}
		got, err := log.ReadTiles([]tlog.Tile{t})
		if err != nil {
			return err
		}
		if !bytes.Equal(want, got[0]) {
			return fmt.Errorf("%s differs", t.Path())
		}
	}
	// Proofs made from the tiles.
	step := tree.N/200 + 1
	for n := int64(0); n < tree.N; n += step {
		path, err := tlog.ProveRecord(tree.N, n, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(path, tree.N, tree.Hash, n, stored[tlog.StoredHashIndex(0, n)]); err != nil {
			return err
		}
		old, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			return err
		}
		consistency, err := tlog.ProveTree(tree.N, n+1, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(consistency, tree.N, tree.Hash, n+1, old); err != nil {
			return err
		}
	}
	fmt.Println(tree.N, tree.Hash)
	return nil
}

func proof(file, entryFile, verifierKey string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	entry, err := os.ReadFile(entryFile)
	if err != nil {
		return err
	}
	at := bytes.Index(data, []byte("\n\n"))
	if at < 0 {
		return errors.New("no checkpoint")
	}
	lines := strings.Split(string(data[:at]), "\n")
	if len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return errors.New("not a proof")
	}
	index, err := strconv.ParseInt(lines[1][len("index "):], 10, 64)
	if err != nil {
		return err
	}
	var path tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(hash) != tlog.HashSize {
			return errors.New("a hash is malformed")
		}
		path = append(path, *(*tlog.Hash)(hash))
	}
	_, tree, err := open(data[at+2:], verifierKey)
	if err != nil {
		return err
	}
	if index < 0 || index >= tree.N {
		return errors.New("the index is outside the tree")
	}
	return tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(entry))
}

func sign(signerKey string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(signerKey)
	if err != nil {
		return err
	}
	signed, err := note.Sign(&note.Note{Text: string(text)}, signer)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(signed)
	return err
}
