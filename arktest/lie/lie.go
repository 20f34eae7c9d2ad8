// Package lie names the lies that the test operator tells on request, and says
// of each what a participant must not do when told it. It must not know how
// they are told.
package lie

// Name is a lie's stable name.
type Name string
