package vigil_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	architecture = "ARCHITECTURE.md"
	roomsBegin   = "<!-- rooms: made by `go test . -run TestRoomsDoc -update` from the package docs and architecture_test.go -->\n"
	roomsEnd     = "<!-- end of rooms -->\n"
)

// setWords says in the table what a set of rooms is.
var setWords = map[string]string{"@server": "server rooms", "@io": "rooms that do I/O"}

// TestRoomsDoc holds the table of rooms to what the packages say of themselves
// and to the rules that TestImportRules holds.
func TestRoomsDoc(t *testing.T) {
	page, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := bytes.Cut(page, []byte(roomsBegin))
	_, tail, ended := bytes.Cut(rest, []byte(roomsEnd))
	if !found || !ended {
		t.Fatalf("%s has lost the marks of its table of rooms", architecture)
	}
	want := slices.Concat(head, []byte(roomsBegin), roomsTable(t), []byte(roomsEnd), tail)
	if *update {
		if err := os.WriteFile(architecture, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(page, want) {
		t.Errorf("%s is not current; run go test . -run TestRoomsDoc -update", architecture)
	}
}

// roomsTable has a line for every room with something of its own to say: those
// that are generated, or internal to one room, have none.
func roomsTable(t *testing.T) []byte {
	t.Helper()
	files, _ := parse(t)
	docs := map[string]string{}
	for _, f := range files {
		if f.test || strings.HasPrefix(f.room, "internal/pb") || f.room == "vigilpb" || strings.Contains(f.room, "/internal/") || within(f.room, []string{"cmd", "e2e", "docs"}) {
			continue
		}
		docs[f.room] += f.ast.Doc.Text() // one file of a package has it
	}
	var b bytes.Buffer
	b.WriteString("| room | owns | never imports |\n|---|---|---|\n")
	for _, room := range inOrder(slices.Collect(maps.Keys(docs))) {
		if within(room, testRooms) {
			continue
		}
		name := "`" + room + "`"
		if room == "." {
			name = "`vigil` (root)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, owns(t, room, docs[room]), prohibitions(room))
	}
	b.WriteString("| `cmd/vigil` | the wiring: the only place that knows every room | – |\n")
	return b.Bytes()
}

// inOrder sorts rooms as the rules have them, from what everybody stands on to
// what stands on everybody.
func inOrder(all []string) []string {
	place := func(room string) int {
		at := len(rules)
		for i, r := range rules {
			if r.covers(room) {
				at = min(at, i)
			}
		}
		return at
	}
	slices.SortFunc(all, func(a, b string) int {
		if d := place(a) - place(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return all
}

var sentence = regexp.MustCompile(`(?s)^Package \w+ (?:owns |is )?(.*?)\.(?:\s|$)`)

// owns is the first sentence of a package doc.
func owns(t *testing.T, room, doc string) string {
	t.Helper()
	m := sentence.FindStringSubmatch(doc)
	if m == nil {
		t.Errorf("the package doc of %s does not say in one sentence what it owns: %q", room, doc)
		return ""
	}
	return strings.ReplaceAll(strings.Join(strings.Fields(m[1]), " "), "|", `\|`)
}

// prohibitions says in words what the rules of a room forbid: its own lines of
// the table, or those of the room that it lies in.
func prohibitions(room string) string {
	var says []string
	for _, r := range rules {
		if r.room != room {
			continue
		}
		var never []string
		for _, n := range r.never {
			switch {
			case n == "*" && len(r.except) > 0:
				never = append(never, "any other room but "+quoted(r.except))
			case n == "*":
				never = append(never, "any other room")
			case setWords[n] != "":
				never = append(never, setWords[n])
			default:
				never = append(never, quoted([]string{n}))
			}
		}
		text := strings.Join(never, ", ")
		if r.transitive {
			text += ", not even through others"
		}
		if says = append(says, text); r.pure {
			says = append(says, "I/O, a clock")
		}
		if r.alone != nil {
			text := "any other module"
			if len(r.alone) > 0 {
				text += " but " + quoted(r.alone)
			}
			says = append(says, text)
		}
	}
	if says != nil {
		return strings.Join(says, "; ")
	}
	for _, r := range rules {
		if r.covers(room) {
			return "as `" + r.room + "`"
		}
	}
	return ""
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		if n == "." {
			n = "vigil"
		}
		out[i] = "`" + strings.TrimPrefix(n, "github.com/") + "`"
	}
	return strings.Join(out, ", ")
}
