package chilldkg_test

import (
	"fmt"
	"log"

	"github.com/vigil-ark/vigil/bip340"
	"github.com/vigil-ark/vigil/frost"
	"github.com/vigil-ark/vigil/frost/chilldkg"
)

// A device and a server make a key together and sign with it. The device's host
// key comes from its seed, the server's is pinned by the device beforehand.
func Example() {
	device, server := host(), host()
	params, err := chilldkg.NewParams(2, []bip340.PubKey{device.PubKey(), server.PubKey()})
	must(err)

	// Two round trips; the server takes part and coordinates.
	one, pmsg1, err := chilldkg.Step1(device, params)
	must(err)
	serving, cmsg1, err := chilldkg.Serve(server, params, [][]byte{pmsg1, nil})
	must(err)
	two, pmsg2, err := one.Step2(device, cmsg1)
	must(err) // before pmsg2 leaves: two.Transcript and two.Unconfirmed are durable
	cmsg2, theirs, recovery, err := serving.Certify([][]byte{pmsg2, nil})
	must(err) // before cmsg2 leaves: theirs and recovery are durable
	ours, _, err := two.Finalize(cmsg2)
	must(err)
	ack, err := chilldkg.Acknowledge(device, params, recovery)
	must(err)
	must(chilldkg.VerifyAcknowledgment(params, recovery, 0, ack)) // now the key may be used

	// One round trip for a signature; the server is the last signer.
	msg, session := [32]byte{1}, frost.SessionID{2}
	deviceShare, deviceContext := load(ours)
	serverShare, serverContext := load(theirs)
	pending, err := deviceShare.Commit(deviceContext, session, msg)
	must(err)
	answer, err := serverShare.Answer(frost.Query{
		Context: serverContext, Session: session, Msg: msg,
		Nonces: []frost.PubNonce{pending.PubNonce(), {}},
	})
	must(err)
	nonces := []frost.PubNonce{pending.PubNonce(), answer.Nonce}
	part, signing, err := pending.Sign(nonces)
	must(err)
	sig, err := signing.Aggregate([]frost.PartialSig{part, answer.Sig}, nonces)
	must(err)
	fmt.Println(bip340.Verify(ours.Key.XOnly(), msg[:], sig))
	// Output: true
}

// load is what a restart does with a stored key: once, for many signatures.
func load(out *chilldkg.Output) (*frost.Share, *frost.Context) {
	info, err := out.Info()
	must(err)
	share, err := frost.NewShare(info, out.ID, out.Share)
	must(err)
	signers, err := info.Signers(0, 1)
	must(err)
	return share, signers.Untweaked()
}

func host() *chilldkg.HostKey {
	_, secret, err := bip340.GenerateKey()
	must(err)
	h, err := chilldkg.NewHostKey(secret)
	must(err)
	return h
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
