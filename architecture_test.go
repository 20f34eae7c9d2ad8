package vigil_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vigil-ark/vigil"

// sets are the groups of rooms that rules name with an @.
var sets = map[string][]string{
	// What only a running Vigil has: the protocol, the test operator and whoever
	// writes a client must stand without them.
	"@server": {"kv", "ledger", "signer", "delegate", "renewal", "rpc", "fsck", "stock", "upkeep", "admin", "metrics", "wallet", "policy", "audit", "notify"},
	// What talks to the world.
	"@io": {"operator", "esplora", "arktest", "secret/sealed", "kv/sqlite", "internal/sqlitedb", "cmd"},
}

// planned are rooms that rules name before they exist: they hold from the first
// line on.
var planned = []string{"wallet", "policy", "audit", "notify"}

// rule holds one line of the table in ARCHITECTURE.md: what a room's files,
// tests apart, must never import. It covers the rooms below too, and every rule
// that covers a room holds there.
type rule struct {
	room       string
	exact      bool     // not the rooms below
	not        []string // rooms below that it does not cover
	never      []string // rooms with all below, sets, or "*": every room but this
	except     []string // what "*" leaves out
	transitive bool     // also through what it imports
	pure       bool     // neither I/O nor a clock: nothing of outside
	alone      []string // if not nil: no module but these, and the standard library
}

// outside is what a pure room must not import.
var outside = []string{"os", "net", "time", "syscall", "log", "database/sql", "io/fs", "google.golang.org/grpc", "golang.org/x/net", "golang.org/x/sys"}

var rules = []rule{
	{room: ".", never: []string{"*"}, pure: true, alone: []string{}},
	{room: "secret", exact: true, never: []string{"*"}, pure: true, alone: []string{}},
	{room: "secret/sealed", never: []string{"*"}, except: []string{"secret", "internal/sqlitedb"}, alone: []string{"golang.org/x/crypto"}},
	{room: "secret/export", never: []string{"*"}, except: []string{"secret"}, alone: []string{"filippo.io/age"}},
	{room: "secret/search", never: []string{"*"}, except: []string{"secret"}, alone: []string{"github.com/btcsuite/btcd/address/v2/bech32"}},
	{room: "secret/secrettest", never: []string{"*"}, except: []string{"secret"}, alone: []string{}},
	{room: "bip340", never: []string{"*"}, except: []string{".", "secret"}, pure: true, alone: []string{"github.com/btcsuite/btcd/btcec/v2"}},
	{room: "musig2", never: []string{"*"}, except: []string{"bip340", "secret"}, pure: true, alone: []string{"github.com/btcsuite/btcd/btcec/v2"}},
	{room: "frost", never: []string{"*"}, except: []string{"bip340", "secret"}, pure: true},
	{room: "ark", never: []string{"@server", "@io", "frost", "secret", "internal/pb"}, pure: true},
	{room: "operator", never: []string{"@server", "arktest", "secret", "frost"}},
	{room: "esplora", never: []string{"*"}, alone: []string{"github.com/btcsuite/btcd"}},
	{room: "kv", exact: true, never: []string{"*"}, pure: true, alone: []string{}},
	{room: "kv/sqlite", never: []string{"*"}, except: []string{"kv", "internal/sqlitedb"}},
	{room: "kv/kvtest", never: []string{"*"}, except: []string{"kv"}},
	{room: "kv", never: []string{"secret", "signer", "frost", "musig2", "bip340"}, transitive: true},
	{room: "ledger", never: []string{"@io", "secret", "signer", "rpc", "renewal", "stock"}},
	{room: "delegate", never: []string{"@io", "secret", "signer", "kv", "rpc", "ledger"}, pure: true},
	{room: "signer", never: []string{"@io", "kv", "ledger", "rpc", "renewal", "stock"}, pure: true},
	{room: "renewal", never: []string{"rpc", "secret", "signer", "kv", "stock", "arktest"}},
	{room: "stock", never: []string{"rpc", "secret", "signer", "kv", "renewal", "arktest"}},
	{room: "wallet", never: []string{"rpc", "secret", "kv", "stock", "arktest", "admin"}},
	{room: "upkeep", never: []string{"@io", "rpc", "secret", "signer", "kv", "renewal", "stock"}},
	{room: "admin", never: []string{"@io", "rpc", "secret", "kv", "renewal", "stock"}},
	{room: "auth", never: []string{"*"}, except: []string{".", "bip340", "vigilpb"}, alone: []string{"google.golang.org/protobuf"}},
	{room: "rpc", never: []string{"@io", "kv", "ledger", "secret", "frost", "musig2", "signer"}},
	{room: "policy", never: []string{"*"}, except: []string{".", "ark", "internal/canon"}, pure: true},
	{room: "audit", never: []string{"*"}, except: []string{".", "bip340", "internal/canon"}, pure: true, alone: []string{}},
	{room: "notify", never: []string{"*"}, except: []string{".", "bip340"}, alone: []string{}},
	{room: "metrics", never: []string{"*"}, except: []string{".", "delegate"}},
	{room: "fsck", never: []string{"@io", "rpc", "secret", "signer"}},
	{room: "client", never: []string{"@server", "arktest", "secret/sealed", "internal/pb"}},
	{room: "arktest", not: []string{"arktest/wallet"}, never: []string{"arktest/wallet", "*"}, except: []string{"internal/pb"}},
	{room: "arktest/chain", never: []string{"*"}},
	{room: "arktest/esplora", never: []string{"*"}, except: []string{"arktest/chain"}},
	{room: "arktest/lie", never: []string{"*"}, pure: true, alone: []string{}},
	{room: "arktest/admin", never: []string{"*"}, except: []string{"arktest"}},
	{room: "arktest/wallet", never: []string{"@server", "secret", "arktest/chain", "arktest/lie"}},
	{room: "internal/canon", never: []string{"*"}, pure: true, alone: []string{}},
	{room: "internal/caught", never: []string{"*"}, pure: true, alone: []string{}},
	{room: "internal/crash", never: []string{"*"}, alone: []string{}},
	{room: "internal/memnet", never: []string{"*"}, alone: []string{"google.golang.org/grpc"}},
	{room: "internal/turns", never: []string{"*"}, alone: []string{}},
	{room: "internal/sqlitedb", never: []string{"*"}, except: []string{"internal/crash"}},
	{room: "internal/pb", never: []string{"*"}},
	{room: "vigilpb", never: []string{"*"}},
	{room: "docs", never: []string{"*"}, alone: []string{}},
	{room: "e2e", never: []string{"@server", "arktest"}},
}

// testRooms exist for tests alone: only tests and each other may import them.
var testRooms = []string{"ark/internal/vector", "ark/tree/treetest", "frost/internal/dkgtest", "kv/kvtest", "secret/secrettest", "internal/sqlitedb/floor", "internal/sqlitedb/powercut", "arktest/internal/vector", "internal/memnet", "internal/turns"}

// experimental rooms are off by default: nothing of the module but tests may
// import them.
var experimental = []string{"frost/reshare"}

// mayUseSecrets lists the rooms that may open a secret.Bytes.
var mayUseSecrets = []string{"secret", "bip340", "musig2", "frost", "signer", "client"}

// mayNameStore lists the rooms that may name secret.Store.
var mayNameStore = []string{"secret", "signer", "client", "cmd"}

type file struct {
	room string // folder relative to the module's root
	path string
	ast  *ast.File
	test bool
}

// parse reads every Go file of the module. It does not ask the go command,
// whose answer go test would cache across an edit.
func parse(t *testing.T) (files []file, fset *token.FileSet) {
	t.Helper()
	fset = token.NewFileSet()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != "." && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || p == "tools") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, file{room: filepath.ToSlash(filepath.Dir(p)), path: p, ast: f, test: strings.HasSuffix(p, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 300 {
		t.Fatalf("only %d Go files found: the walk is broken", len(files))
	}
	return files, fset
}

// within says whether room is one of names or lies below one of them.
func within(room string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		return room == n || (n != "." && strings.HasPrefix(room, n+"/"))
	})
}

// covers says whether r holds in room.
func (r rule) covers(room string) bool {
	return room == r.room || !r.exact && within(room, []string{r.room}) && !within(room, r.not)
}

// forbids says whether a room that r covers must not import another.
func (r rule) forbids(to string) bool {
	for _, n := range r.never {
		switch {
		case n == "*":
			if !within(to, r.except) && !within(to, []string{r.room}) {
				return true
			}
		case sets[n] != nil:
			if within(to, sets[n]) {
				return true
			}
		case within(to, []string{n}):
			return true
		}
	}
	return false
}

// imported lists what f imports: rooms of this module, other modules' packages,
// and those of the standard library.
func imported(f file) (ours, theirs, std []string) {
	for _, spec := range f.ast.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		rest, inside := strings.CutPrefix(p, module+"/")
		switch first, _, _ := strings.Cut(p, "/"); {
		case p == module:
			ours = append(ours, ".")
		case inside:
			ours = append(ours, rest)
		case strings.Contains(first, "."):
			theirs = append(theirs, p)
		default:
			std = append(std, p)
		}
	}
	return ours, theirs, std
}

func TestImportRules(t *testing.T) {
	files, _ := parse(t)
	imports := map[string]map[string]string{} // room to imported room to a file that does it
	for _, f := range files {
		if f.test {
			continue
		}
		if imports[f.room] == nil {
			imports[f.room] = map[string]string{}
		}
		ours, theirs, std := imported(f)
		for _, to := range ours {
			imports[f.room][to] = f.path
			if within(to, testRooms) && !within(f.room, testRooms) {
				t.Errorf("%s imports %s, which is for tests alone", f.path, to)
			}
			if within(to, experimental) {
				t.Errorf("%s imports %s, which is experimental and off by default", f.path, to)
			}
		}
		if within(f.room, testRooms) {
			continue
		}
		for _, r := range rules {
			if !r.covers(f.room) {
				continue
			}
			for _, p := range slices.Concat(theirs, std) {
				if r.pure && within(p, outside) && p != "log/slog" { // slog: how a value shows itself
					t.Errorf("%s imports %s: %s is pure, without I/O or a clock", f.path, p, r.room)
				}
			}
			for _, p := range theirs {
				if r.alone != nil && !within(p, r.alone) {
					t.Errorf("%s imports %s: %s needs no other module but %q", f.path, p, r.room, r.alone)
				}
			}
		}
	}
	for _, r := range rules {
		for room := range imports {
			if !r.covers(room) {
				continue
			}
			seen := map[string]bool{}
			var visit func(from string, via []string)
			visit = func(from string, via []string) {
				for to, p := range imports[from] {
					if r.forbids(to) {
						t.Errorf("%s imports %s, which %s must never do (through %s)", p, to, r.room, path.Join(via...))
					}
					if r.transitive && !seen[to] {
						seen[to] = true
						visit(to, append(via, to))
					}
				}
			}
			visit(room, []string{room})
		}
	}
	rulesMeanSomething(t, slices.Sorted(maps.Keys(imports)))
}

// rulesMeanSomething fails when a rule names what is not there, or a room has no
// rule: both are how such a table rots.
func rulesMeanSomething(t *testing.T, all []string) {
	known := func(name string) bool {
		return name == "*" || sets[name] != nil || within(name, planned) ||
			slices.ContainsFunc(all, func(room string) bool { return within(room, []string{name}) })
	}
	named := slices.Concat(testRooms, experimental, mayUseSecrets, mayNameStore)
	for _, set := range sets {
		named = append(named, set...)
	}
	for _, r := range rules {
		named = append(slices.Concat(named, r.never, r.except, r.not), r.room)
	}
	for _, name := range named {
		if !known(name) {
			t.Errorf("the rules name %s, which does not exist", name)
		}
	}
	for _, room := range all {
		if !within(room, []string{"cmd"}) && !slices.ContainsFunc(rules, func(r rule) bool { return r.covers(room) }) {
			t.Errorf("%s has no rule: what must it never import?", room)
		}
	}
}

func TestOnlyNamedRoomsOpenSecrets(t *testing.T) {
	files, fset := parse(t)
	opened := 0
	for _, f := range files {
		name := "" // of package secret in this file
		for _, spec := range f.ast.Imports {
			if spec.Path.Value != `"`+module+`/secret"` {
				continue
			}
			if name = "secret"; spec.Name != nil {
				name = spec.Name.Name
			}
		}
		if name == "." {
			t.Errorf("%s imports secret without its name, which hides what it does", f.path)
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if sel.Sel.Name == "Use" { // called or handed on; no other type of ours has such a method
				opened++
				if !within(f.room, mayUseSecrets) && !f.test {
					t.Errorf("%s opens a secret", fset.Position(n.Pos()))
				}
			}
			x, ok := sel.X.(*ast.Ident)
			if ok && x.Name == name && sel.Sel.Name == "Store" && !within(f.room, mayNameStore) && !f.test {
				t.Errorf("%s names secret.Store", fset.Position(n.Pos()))
			}
			return true
		})
	}
	if opened == 0 {
		t.Error("no use of a secret found anywhere: the test looks for the wrong thing")
	}
}
